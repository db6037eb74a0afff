"""Steps of a layer's queries, keys and values, from projection to the attention function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmscope.record.walkthrough import qkv_origin
from llmscope.record.walkthrough.arithmetic import Norm
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.embedding import rows_of
from llmscope.record.walkthrough.qkv_origin import QkvOrigin
from llmscope.record.walkthrough.rope import angles
from llmscope.record.walkthrough.steps import norm_form, unknown_norm
from llmscope.record.walkthrough.terms import Explanation, added
from llmscope.record.walkthrough.tracer import Call

HEADED = ("head", "position", "dimension")
TOLD = {
    "query": (
        "what it looks for",
        "Now tokens look at each other, in several heads, each with an eye for something else. The "
        "query stands for what a token looks for.",
    ),
    "key": (
        "what it offers",
        "The key stands for what a token has to offer; queries will be held against it.",
    ),
    "value": (
        "what it hands on",
        "The value is what a token hands on to those that look at it.",
    ),
}


class Heads:
    """Adds the steps of queries, keys and values to the chain.

    Args:
        block: the layer.
        entry: index of the step that the attention reads.
        call: the attention's call.
        calls: calls of modules within the attention.
    """

    def __init__(self, block: LayerBlock, entry: int, call: Call | None, calls: list[Call]) -> None:
        self.block, self.chain, self.entry = block, block.chain, entry
        seen = block.seen
        assert seen.query is not None
        assert seen.key is not None
        assert seen.value is not None
        self.own = (seen.query, seen.key, seen.value)
        self._angles = angles(call, calls)
        self._sources = self._find_origins(call, calls)

    def walk(self) -> list[int]:
        """Add the steps, and return the last one's index for queries, keys and values."""
        at = [self._projection(name, which) for which, name in enumerate(TOLD)]
        for which, name in enumerate(TOLD):
            source = self._sources[which]
            if source is not None and source.norm is not None:
                at[which] = self._norm(name, source, at[which])
        for which, name in enumerate(TOLD):
            source = self._sources[which]
            if source is not None and source.turned is not None:
                at[which] = self._rotation(name, source, at[which], self.own[which])
        return at

    def _find_origins(self, call: Call | None, calls: list[Call]) -> list[QkvOrigin | None]:
        """Find the origin of queries, keys and values; None for each that was not found."""
        if call is None or call.given is None:
            return [None] * len(TOLD)
        counts = (len(self.own[0]), len(self.own[1]))
        turns = [] if self._angles is None else self._angles.turns()
        used: set[Any] = set()
        origins: list[QkvOrigin | None] = []
        for which, actual in enumerate(self.own):
            rotations = [] if which == 2 else turns
            read = rows_of(call.given)
            origins.append(
                qkv_origin.find(
                    actual, which, counts, calls, read, rotations, used, self.chain.near
                )
            )
            used |= {origin.taken for origin in origins[-1:] if origin is not None}
        return origins

    def _projection(self, name: str, which: int) -> int:
        source, (gist, formula), letter = self._sources[which], TOLD[name], name[0]
        if source is None:
            return self.chain.add(
                *(name, gist, formula, "?", HEADED, (self.entry,)),
                "the projection that makes it cannot be told from what the attention calls",
                self.own[which],
            )
        count, _, width = source.projected.shape
        run, by = self.chain.projection(source.call, source.columns)
        factor = source.factor if source.norm is None and source.turned is None else 1.0
        biased = getattr(source.call.module, "bias", None) is not None
        product = f"x W_{letter}{f' + b_{letter}' if biased else ''}"

        def make(x: Tensor) -> Tensor:
            return run(x).reshape(len(x), count, width).transpose(0, 1) * factor

        return self.chain.add(
            name,
            gist,
            formula,
            f"{letter} = {product}" if factor == 1 else f"{letter} = {factor:.4g} · ({product})",
            HEADED,
            (self.entry,),
            make,
            source.projected * factor,
            weights=self.chain.weights(source.call.module, source.columns),
            by=by,
            reads=lambda at: ((at[1], slice(None)),),
            tell=self.chain.tells(
                *(source.call.module, source.columns, lambda at: at[0] * width + at[2]),
                ("dimension",),
                scale=factor,
            ),
        )

    def _norm(self, name: str, source: QkvOrigin, before: int) -> int:
        assert source.norm is not None
        form, letter = norm_form(source.norm), name[0]

        def make(heads: Tensor) -> Tensor:
            assert form is not None
            rows = heads.transpose(0, 1)
            normed = form[1](rows.flatten(1) if source.flat else rows)
            return normed.reshape(rows.shape).transpose(0, 1)

        def tell(at: tuple[int, ...], x: Tensor) -> Explanation:
            norm = form[1] if form else None
            assert isinstance(norm, Norm)
            return norm.tell(x.flatten(), at[0] * x.shape[-1] + at[2] if source.flat else at[2])

        return self.chain.add(
            f"{name} norm",
            "made one size",
            f"Each {name} is brought to one size, so that no score can grow without limit.",
            form[0].replace("x", letter) if form else "norm(x)",
            HEADED,
            (before,),
            make if form else unknown_norm(source.norm.module),
            source.normed,
            weights=self.chain.weights(source.norm.module),
            reads=lambda at: (
                (slice(None), at[1], slice(None)) if source.flat else (*at[:2], slice(None)),
            ),
            tell=tell if form else None,
        )

    def _rotation(self, name: str, source: QkvOrigin, before: int, actual: Tensor) -> int:
        assert source.turned is not None
        assert self._angles is not None
        angles, table = self._angles, self._angles.step(self.chain, self.block)
        letter, factor, number = name[0], source.factor, self._angles.number(source.turned)
        scaled = "" if factor == 1 else f"{factor:.4g} · "

        def make(heads: Tensor, turns: Tensor) -> Tensor:
            return angles.turn(number, turns)(heads) * factor

        def tell(at: tuple[int, ...], x: Tensor, turns: Tensor) -> Explanation:
            one_hot = torch.eye(len(x), dtype=x.dtype)[:, None]
            mixed = angles.turn(number, turns[None])(one_hot)[:, 0, at[2]]
            dimensions = mixed.nonzero().flatten().tolist()
            terms = [
                (f"dimension {dimension}", factor * float(x[dimension] * mixed[dimension]))
                for dimension in dimensions
            ]
            total = " + ".join(
                f"{float(x[dimension]):.4g} · {float(mixed[dimension]):.4g}"
                for dimension in dimensions
            )
            filled = total if factor == 1 else f"{factor:.4g} · ({total})"
            return added("two numbers turned by an angle", *terms, filled=filled)

        return self.chain.add(
            f"rotated {name}",
            "turned by place",
            f"Pairs of a {name}'s numbers are turned like hands of a clock, further at each place: "
            "so a score tells how far apart tokens are.",
            f"{letter}′ = {scaled}{source.turned[0].replace('x', letter)}",
            HEADED,
            (before, table),
            make,
            actual,
            reads=lambda at: ((*at[:2], slice(None)), (at[1], slice(None))),
            tell=tell,
        )
