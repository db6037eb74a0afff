"""The rotation angles of queries and keys: RoPE, Su et al. 2021.

The dimension pair i of the token at position p is rotated by p · ωᵢ. The attention receives the
cosines and sines as arguments; the module that computed them is found by object identity, and its
frequencies among that module's buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import Form, rotations
from llmscope.record.walkthrough.block import LayerBlock
from llmscope.record.walkthrough.step import Weight
from llmscope.record.walkthrough.steps import Chain, best_form
from llmscope.record.walkthrough.tracer import Call

BASE = 10_000.0
"""RoPE base where the model keeps no frequencies."""


class Angles:
    """Cosines and sines as passed to the attention. [row, pair], or twice per pair, each."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.handed = (cos, sin)
        tables = [exact(table).reshape(-1, table.shape[-1]) for table in (cos, sin)]
        self.table = torch.cat(tables, -1)
        self._forms = list(rotations(*tables))
        self._step: int | None = None

    def turns(self) -> list[Form]:
        """Return the ways to rotate a head by these angles."""
        return self._forms

    def number(self, form: Form) -> int:
        """Return the index of one of the ways."""
        return next(index for index, other in enumerate(self._forms) if other is form)

    def turn(self, number: int, table: Tensor) -> Callable[[Tensor], Tensor]:
        """Return way `number` with recomputed angles.

        Args:
            number: index of the way.
            table: cosines, then sines. [row, 2 · pair]
        """
        cos, sin = table.chunk(2, dim=-1)
        return list(rotations(cos, sin))[number][1]

    def step(self, chain: Chain, block: LayerBlock) -> int:
        """Return the index of the step that computes the angles, shared by queries and keys."""
        if self._step is None:
            self._step = self._add(chain, block)
        return self._step

    def _add(self, chain: Chain, block: LayerBlock) -> int:
        calls = (*block.seen.before, *block.seen.inside)
        maker = next((call for call in calls if self._from(call)), None)
        count, weights = len(self.table), list[Weight]()
        places = torch.arange(count, dtype=torch.float32)[:, None]
        makers = [*self._makers(maker.module)] if maker is not None else []
        form = best_form(makers or self._paper(), places, self.table)
        for buffer in maker.module.buffers() if maker is not None else ():
            weights += chain.weight(buffer) if form and form[0] == _name_buffer(buffer) else []
        return chain.add(
            "rotation angles",
            "angles of places",
            "Where a token stands is told by turning its queries and keys: its place times the "
            "speed of each pair of numbers is the angle.",
            "cos(p · ωᵢ), sin(p · ωᵢ)",
            ("position", "pair"),
            (0,),
            (lambda _: form[1](places)) if form else "what made them was not seen",
            self.table,
            weights=weights,
        )

    def _from(self, call: Call) -> bool:
        output = call.output if isinstance(call.output, tuple | list) else ()
        return any(part is self.handed[0] for part in output)

    def _paper(self) -> Iterator[Form]:
        """Yield forms with the paper's frequencies, ωᵢ = 10000^(−2i/d), if the model keeps none."""
        width = self.handed[0].shape[-1]
        for pairs, spread in ((width, _once), (width // 2, _twice), (width // 2, _beside)):
            speeds = BASE ** -(torch.arange(pairs, dtype=torch.float32) / pairs)
            yield f"{pairs} pairs", _table(speeds, 1.0, spread)

    def _makers(self, module: nn.Module) -> Iterator[Form]:
        """Yield cosines and sines of p · ω, for each 1-D buffer of frequencies of the module."""
        scales = [v for k, v in vars(module).items() if "scaling" in k and isinstance(v, float)]
        for buffer in module.buffers():
            if buffer.dim() == 1:
                for scale in {1.0, *scales}:
                    for spread in (_twice, _beside, _once):
                        yield _name_buffer(buffer), _table(buffer, scale, spread)


def _name_buffer(buffer: Tensor) -> str:
    return f"buffer {id(buffer)}"


def _table(
    frequencies: Tensor, scale: float, spread: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    # Round the angle to float32 as the model does: at position 10,000 the difference shows.
    speeds = frequencies.detach().float().cpu()

    def make(places: Tensor) -> Tensor:
        angles = spread(exact(places * speeds))
        return torch.cat([angles.cos(), angles.sin()], -1) * scale

    return make


def _twice(angles: Tensor) -> Tensor:
    return torch.cat([angles, angles], -1)


def _beside(angles: Tensor) -> Tensor:
    return angles.repeat_interleave(2, -1)


def _once(angles: Tensor) -> Tensor:
    return angles


def angles(call: Call | None, inner: list[Call]) -> Angles | None:
    """Return the angles passed to an attention or computed within it; None if not found.

    They are recognized as two tensors of equal shape with one row per token.

    Args:
        call: the attention's call.
        inner: calls of modules within the attention.
    """
    if call is None or call.given is None:
        return None
    length = call.given.shape[-2]
    handed = (*call.args, *call.kwargs.values(), *(inner_call.output for inner_call in inner))
    for value in handed:
        if isinstance(value, tuple | list) and len(value) == 2 and _alike(value, length):
            # At position 0 all sines are zero; some models pass the sines first.
            first, second = value
            return Angles(first, second) if first[..., 0, :].any() else Angles(second, first)
    return None


def _alike(pair: Any, length: int) -> bool:
    first, second = pair
    return (
        isinstance(first, Tensor)
        and isinstance(second, Tensor)
        and first.shape == second.shape
        and first.dim() >= 2
        and first.shape[-2] == length
        and first.is_floating_point()
    )
