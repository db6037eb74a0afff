"""Steps of a layer's attention: queries, keys, values, scores, pattern, output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llmscope.models.anatomy import Layer
from llmscope.record.derive.tensors import by_group
from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import Form, inside_forms, score_form
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.embedding import WIDE, rows_of
from llmscope.record.walkthrough.qkv import Heads
from llmscope.record.walkthrough.steps import best_form
from llmscope.record.walkthrough.terms import Explanation, affine, bent, shared, summed

SEEN = ("head", "query", "key")
MASKED = -5e3


class Attention:
    """Adds the steps of one layer's attention to the chain."""

    def __init__(self, block: LayerBlock, parts: Layer, entry: int, gate: Tensor | None) -> None:
        self.block, self.chain, self.seen, self.parts = block, block.chain, block.seen, parts
        self.entry, self.rows = entry, block.rows
        self.gate = None if gate is None else exact(gate)  # [row, input], for the computed rows
        attention = parts.attention
        assert attention is not None
        inner = set(attention.modules()) - {attention}
        self.calls = [call for call in self.seen.inside if call.module in inner]
        self.call = self.seen.call_of(attention)
        self.outer = self.seen.call_of(parts.attention_out)

    def walk(self) -> int:
        """Add the steps up to the output projection; return its index."""
        seen = self.seen
        if seen.query is None:
            scores, value = self._inside(), None
        else:
            query, key, value = Heads(self.block, self.entry, self.call, self.calls).walk()
            scores = self._scores(query, key)
        pattern = self._pattern(scores)
        return self._output(self._add_join(self._add_mix(pattern, value)))

    def _scores(self, query: int, key: int) -> int:
        rows = self.rows
        formula, bend = self._form()

        def make(q: Tensor, k: Tensor) -> Tensor:
            return bend(by_group(q[:, rows.start : rows.stop], k.transpose(1, 2)))

        heads = len(self.chain.at(query))
        group = heads // len(self.chain.at(key))
        shape = (heads, len(rows), self.block.whole)

        def tell(at: tuple[int, ...], q: Tensor, k: Tensor) -> Explanation:
            line, along = affine(bend, shape, at), [("dimension", len(q))]
            if line is None:  # softcap: the sum goes through tanh
                product = q @ k
                value = float(bend(product.reshape(1, 1, 1)).expand(*shape)[at])
                return bent(formula.removeprefix("s = "), float(product), value)
            factor, more = line
            biased = [("for the distance", more)] if more else []
            return summed("query · key, added up", q, k, along, scale=factor, more=biased)

        return self.chain.add(
            "scores",
            "how well each fits",
            "Does a key fit the query? Multiplied number by number, added up and scaled "
            "they are a score: the higher, the better. No token sees later ones.",
            formula,
            SEEN,
            (query, key),
            make,
            self._own(self.seen.scores),
            start=rows.start,
            floor=1.0,
            seen=self._visible().expand(heads, -1, -1),
            reads=lambda at: (
                (at[0], at[1] + rows.start, slice(None)),
                (at[0] // group, at[2], slice(None)),
            ),
            tell=tell,
        )

    def _form(self) -> Form:
        """Return the form from products of queries and keys to scores.

        It is taken from the attention function's settings, or else inferred from the traced scores.
        """
        settings, scores, seen = self.seen.settings, self._own(self.seen.scores), self.seen
        if settings is not None:
            return score_form(settings.scale, settings.softcap)
        assert seen.query is not None
        assert seen.key is not None
        forms = list(
            inside_forms(len(seen.query), seen.query.shape[-1], self.rows, self.block.whole)
        )
        if scores is None:
            return forms[0]
        visible, query = self._visible(), exact(seen.query)[:, self.rows.start : self.rows.stop]
        products = by_group(query, exact(seen.key).transpose(1, 2))

        def masked(form: Form) -> Form:
            return form[0], lambda x: torch.where(visible, form[1](x), 0.0)

        best = best_form(map(masked, forms), products, scores)
        return next((form for form in forms if best and form[0] == best[0]), forms[0])

    def _inside(self) -> int:
        """Add the scores' step for a model whose queries and keys cannot be traced."""
        scores = self._own(self.seen.scores)
        return self.chain.add(
            "scores",
            "how well each fits",
            "Each token's query is held against the keys of the tokens before it.",
            "s = q kᵀ / √d",
            SEEN,
            (self.entry,),
            "this model makes queries and keys inside its attention, where they cannot be seen",
            scores,
            start=self.rows.start,
            seen=None if scores is None else self._visible().expand(len(scores), -1, -1),
        )

    def _pattern(self, scores: int) -> int:
        settings, sinks = self.seen.settings, self._sinks()
        visible, rows = self._visible(), self.rows

        def make(logits: Tensor) -> Tensor:
            logits = logits.masked_fill(~visible, -torch.inf)
            if sinks is None:
                return torch.softmax(logits, -1)
            more = sinks.expand(-1, logits.shape[1], 1)
            return torch.softmax(torch.cat([logits, more], -1), -1)[..., :-1]

        def tell(at: tuple[int, ...], logits: Tensor) -> Explanation:
            logits = logits.masked_fill(~visible[at[1], : len(logits)], -torch.inf)
            return shared(logits, at[2], None if sinks is None else float(sinks[at[0]]))

        more = "; a sink takes its share" if sinks is not None else ""
        near = "" if self._window >= self.block.whole else f" {self._window} nearest"
        return self.chain.add(
            "pattern",
            "who looks at whom",
            f"The scores become shares that sum to 1, over the{near} tokens up to its own, as a "
            f"softmax does: the higher the score, the larger the share{more}.",
            "α = softmax(s)" if sinks is None else "α = softmax([s, sink])",
            SEEN,
            (scores,),
            make,
            self._own(self.seen.pattern),
            weights=self.chain.weight(settings.sinks) if settings and sinks is not None else (),
            start=rows.start,
            seen=visible.expand(len(self.chain.at(scores)), -1, -1),
            reads=lambda at: ((at[0], at[1], slice(0, at[1] + rows.start + 1)),),
            tell=tell,
        )

    def _visible(self) -> Tensor:
        """Return which keys each query sees: its own and earlier ones, within the window."""
        queries = torch.arange(self.rows.start, self.rows.stop)
        back = queries[:, None] - torch.arange(self.block.whole)
        return (back >= 0) & (back < self._window)

    @property
    def _window(self) -> int:
        """The most keys that a query sees: from the settings, or inferred from traced scores."""
        settings, scores = self.seen.settings, self.seen.scores
        if settings is not None:
            return settings.window or self.block.whole
        if scores is None or scores.shape[1:] != (self.block.whole,) * 2:
            return self.block.whole
        # A mask adds a number below any score: -1e4 in the oldest models.
        return int((scores[0, -1] > MASKED).sum())

    def _own(self, seen: Tensor | None) -> Tensor | None:
        """Return the computed rows of traced scores or patterns. [head, query, key]"""
        whole = self.block.whole
        if seen is None or seen.shape[1] != whole:
            return None
        actual = exact(seen[:, self.rows.start : self.rows.stop])
        sinks = self._sinks()
        if sinks is not None and seen is self.seen.scores and actual.shape[-1] > whole:
            # A model may subtract a constant from a whole row, which does not change the softmax:
            # recover it from the score of the sink, which is known.
            actual = actual + (sinks - actual[..., whole:])
        return torch.where(self._visible(), actual[..., :whole], 0.0)

    def _sinks(self) -> Tensor | None:
        """Return each head's learned sink score; None if the model has no sinks. [head, 1, 1]"""
        settings = self.seen.settings
        sinks = None if settings is None else settings.sinks
        return None if sinks is None else exact(sinks).reshape(-1, 1, 1)

    def _add_mix(self, pattern: int, value: int | None) -> int:
        actual, rows = self._traced_mix(), self.rows
        if value is None:
            make: Any = "its values cannot be seen"
        else:

            def make(weights: Tensor, values: Tensor) -> Tensor:
                return by_group(weights, values).transpose(0, 1)

        heads = len(self.chain.at(pattern))
        sets = heads if value is None else len(self.chain.at(value))
        return self.chain.add(
            "mixed values",
            "what a head brings",
            "Each head takes the values of the tokens that it looks at, each times its share, and "
            "adds them up.",
            "z = Σ α v",
            ("position", "head", "dimension"),
            (pattern,) if value is None else (pattern, value),
            make,
            actual,
            start=rows.start,
            reads=lambda at: (
                (at[1], at[0], slice(0, at[0] + rows.start + 1)),
                (at[1] * sets // heads, slice(0, at[0] + rows.start + 1), at[2]),
            ),
            tell=lambda _, a, v: summed("share · value, added up", a, v, [("key", len(a))]),
        )

    def _add_join(self, mixed: int) -> int:
        """Add the step of a gate or norm between heads and output projection, if there is one.

        Returns:
            The index of the step, or `mixed` if there is neither.
        """
        norm, block = self.block.seen.call_of(self.parts.heads_norm), self.block
        if norm is not None:
            run, by = self.chain.projection(norm)
            return self.chain.add(
                "norm of the heads",
                "made one size",
                "What all heads bring is put side by side and brought to one size.",
                "z' = norm(z)",
                ("position", "head", "dimension"),
                (mixed,),
                lambda z: run(z.flatten(1)).view(z.shape),
                self._traced_input(),
                weights=self.chain.weights(norm.module),
                by=by,
                start=self.rows.start,
                reads=lambda at: ((at[0], slice(None), slice(None)),),
            )
        if self.gate is None:
            return mixed
        gate = self.gate.reshape(self.chain.at(mixed).shape)
        return self.chain.add(
            "gate",
            "how much passes",
            "A gate that each token works out for itself says how much of what the heads bring "
            "is written.",
            "z' = g ∘ z",
            ("position", "head", "dimension"),
            (mixed,),
            lambda z: gate * z,
            self._traced_input(),
            start=block.rows.start,
            reads=lambda at: (at,),
            tell=lambda at, z: summed(
                "gate · what the head brings", gate[at], z, [("dimension", 1)]
            ),
        )

    def _traced_mix(self) -> Tensor | None:
        """Return traced pattern · values, before a gate or norm. [row, head, head width]"""
        mixed, query = self.seen.mixed, self.seen.query
        if mixed is None or query is None:
            return self._traced_input()
        rows = exact(self.block.cut(mixed))
        return rows.reshape(len(rows), len(query), -1)

    def _traced_input(self) -> Tensor | None:
        """Return the output projection's traced input, by head. [row, head, head width]"""
        if self.outer is None or self.outer.given is None:
            return None
        inputs = self.block.cut(rows_of(self.outer.given))
        query = self.seen.query
        heads = self.chain.model.anatomy.heads if query is None else len(query)
        return inputs.reshape(len(inputs), heads, -1)

    def _output(self, mixed: int) -> int:
        call, block = self.outer, self.block
        if call is None or call.gave is None:
            raise LookupError("no output projection was called")
        run, by = self.chain.projection(call)
        biased = getattr(call.module, "bias", None) is not None
        return self.chain.add(
            "output projection",
            "heads put together",
            "What all heads bring is put side by side, and learned weights mix it into as many "
            "numbers as the stream has.",
            f"a = z W_o{' + b_o' if biased else ''}",
            WIDE,
            (mixed,),
            lambda z: run(z.flatten(1)),
            block.cut(rows_of(call.gave)),
            weights=self.chain.weights(call.module),
            by=by,
            start=self.rows.start,
            reads=lambda at: ((at[0], slice(None), slice(None)),),
            tell=self.chain.tells(call.module, None, lambda at: at[1], ("head", "dimension")),
        )


def opaque(block: LayerBlock, module: nn.Module, entry: int, kind: str) -> int:
    """Add one step for a mixer that is not attention, run by its own module; return its index.

    Args:
        block: the layer.
        module: the mixer.
        entry: index of the step that the mixer reads.
        kind: the mixer's name.

    Raises:
        LookupError: the mixer was not called.
    """
    call = block.seen.call_of(module)
    if call is None or call.gave is None:
        raise LookupError(f"no {kind} was called")
    return block.chain.add(
        kind,
        "mixes its own way",
        f"Here tokens are mixed not by attention but by a {kind}; it is shown as one step, which "
        "its own module does again.",
        f"m = {kind.replace(' ', '-')}(x)",
        WIDE,
        (entry,),
        lambda x: block.cut(block.chain.through(call, x)),
        block.cut(rows_of(call.gave)),
        weights=block.chain.weights(module),
        by="module",
        start=block.rows.start,
    )
