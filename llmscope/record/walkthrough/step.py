"""One operation of a pass: what it is called, what it does, its numbers, and whether they hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.walkthrough.terms import Made

STATISTICS = ("mean", "std", "min", "max", "norm")
AT_MOST = 64
"""Numbers of a step that are told beside the table."""

Index = tuple[int | slice, ...]
Reads = Callable[[tuple[int, ...]], tuple[Index, ...]]


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter that a step reads, or those of its outputs that the step reads.

    Attributes:
        name: its full name in the model.
        parameter: all of it.
        axis, chosen: along which of its dimensions, and which indices; None: all of it.
        learned: False for a buffer, which training does not change.
    """

    name: str
    parameter: Tensor
    axis: int | None = None
    chosen: Tensor | None = None
    learned: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what the step reads."""
        shape = list(self.parameter.shape)
        if self.axis is not None and self.chosen is not None:
            shape[self.axis] = len(self.chosen)
        return tuple(shape)

    @property
    def part(self) -> str:
        """Which part of the parameter it is, in words; empty for all of it."""
        if self.chosen is None:
            return ""
        first, last = int(self.chosen[0]), int(self.chosen[-1])
        whole = last - first + 1 == len(self.chosen)
        return f"outputs {first}–{last}" if whole else f"{len(self.chosen)} outputs from {first}"

    @property
    def plane(self) -> tuple[int, int]:
        """Its shape as rows and columns, the last dimension being the columns."""
        *others, columns = self.shape
        return math.prod(others), columns

    def window(self, rows: range, columns: range) -> NDArray[np.float32]:
        """Some of its numbers: a table of a large vocabulary is never copied whole."""
        table = self.parameter.detach()
        table = table.reshape(-1, table.shape[-1])
        down, across = (torch.arange(one.start, one.stop) for one in (rows, columns))
        if self.axis is not None and self.chosen is not None:
            if self.axis == self.parameter.dim() - 1:
                across = self.chosen[across]
            else:
                down = self.chosen[down]
        found = table[down.to(table.device)][:, across.to(table.device)]
        return found.float().cpu().numpy()

    def values(self) -> NDArray[np.float32]:
        """All of its numbers, in the parameter's own order of dimensions."""
        rows, columns = self.plane
        return self.window(range(rows), range(columns)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the pass, with the value that came out when it was done again.

    Attributes:
        name: in the field's terms.
        part: "beginning", "attention", "mlp" or "end".
        gist: what it does, in a few words; `sentence`: in one plain sentence.
        formula: with the names of what it reads.
        axes: names of the value's dimensions.
        inputs: indices of the earlier steps that it reads.
        weights: the parameters that it reads.
        value: done again from those, in float32; the model's own if it could not be.
        agreement: the largest difference from the model's own, relative to the row's largest
            magnitude; None: the model shows none of its own here.
        reason: why it is refused, in one line; empty for a step that holds.
        by: "arithmetic" of ours, or the model's "module", which was handed the steps before.
        start: the place of the prompt of the first row, where only some rows were computed.
        layer: None for what all layers share.
        reads: for a cell of the value, the cells of each input that it was made of.
        made: for a cell of the value, how it came about; None where that cannot be told.
    """

    name: str
    part: str
    gist: str
    sentence: str
    formula: str
    axes: tuple[str, ...]
    inputs: tuple[int, ...]
    weights: tuple[Weight, ...]
    value: NDArray[np.float32]
    agreement: float | None
    reason: str = ""
    by: str = "arithmetic"
    start: int = 0
    layer: int | None = None
    reads: Reads | None = field(default=None, repr=False)
    made: Callable[[tuple[int, ...]], Made] | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its value."""
        return self.value.shape

    @property
    def counts(self) -> bool:
        """Whether its numbers are names of tokens, of which a mean would say nothing."""
        return self.name in ("tokens", "next token")

    def statistics(self) -> NDArray[np.float32]:
        """Mean, standard deviation (of all, not of a sample), least, largest, L2 norm.

        Over all cells of the value that hold a number; NaN for ids of tokens.
        """
        seen = self.value[np.isfinite(self.value)].astype(np.float64)
        if self.counts or not seen.size:
            return np.full(len(STATISTICS), np.nan, dtype=np.float32)
        found = (seen.mean(), seen.std(), seen.min(), seen.max(), np.linalg.norm(seen))
        return np.array(found, dtype=np.float32)

    def here(self, position: int, head: int, heads: int) -> tuple[NDArray[np.float32], str]:
        """The value at a place: what is left once position and head are chosen.

        Args:
            heads: how many query heads there are; several may share a key head.

        Returns:
            [index], and the name of what the index runs over.
        """
        value, left = self.value, list[str]()
        for name, count in zip(self.axes, self.value.shape, strict=True):
            axis = len(left)
            if name in ("position", "query"):
                row = min(max(position - self.start, 0), count - 1)
                value = _cut(value, row, axis)
            elif name == "head":
                value = _cut(value, head * count // heads if heads else 0, axis)
            else:
                left.append(name)
        return value.reshape(-1), left[-1] if left else "position"

    def plane(self, head: int, heads: int) -> tuple[NDArray[np.float32], tuple[str, str]]:
        """The value as rows and columns: of one head, where there are several. [row, column]"""
        value, axes = self.value, list(self.axes)
        if "head" in axes and value.ndim > 2:
            at = axes.index("head")
            value = _cut(value, head * value.shape[at] // heads if heads else 0, at)
            axes.pop(at)
        if value.ndim == 1:
            value, axes = value[None], ["", *axes]
        return value, (axes[0], axes[1])


def _cut(value: NDArray[np.float32], index: int, axis: int) -> NDArray[np.float32]:
    """The value at one index of a dimension, which is gone then."""
    return np.asarray(np.take(value, index, axis), dtype=np.float32)


def disagreement(found: Tensor, own: Tensor, *, rows: int = 0, floor: float = 0.0) -> float:
    """The largest error of a row relative to that row's largest magnitude, in float64.

    Args:
        rows: the dimension that rows are along: a row is all that belongs to one token.
        floor: a magnitude below which rows are not taken to be smaller: 1 for what stands in an
            exponent, where an error of d changes a probability by a factor of 1 + d.
    """
    found, own = (tensor.movedim(rows, 0).flatten(1) for tensor in (found, own))
    least = max(floor, float(torch.finfo(torch.float32).tiny))
    scale = own.abs().amax(-1).clamp(min=least)
    return float(((found - own).abs().amax(-1) / scale).max())
