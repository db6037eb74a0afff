"""One operation of a pass: its name, its description, its values and their agreement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.walkthrough.terms import Explanation

STATISTICS = ("mean", "std", "min", "max", "norm")
AT_MOST = 64
"""Most numbers of a step that are listed beside the table."""

Index = tuple[int | slice, ...]
Reads = Callable[[tuple[int, ...]], tuple[Index, ...]]


@dataclass(frozen=True, eq=False)
class Weight:
    """A parameter or buffer that a step reads, whole or for some of its outputs only.

    Attributes:
        name: the parameter's full name in the model.
        parameter: the whole parameter.
        axis, chosen: the dimension and the indices along it that the step reads; None: all.
        learned: False for a buffer, which training does not change.
    """

    name: str
    parameter: Tensor
    axis: int | None = None
    chosen: Tensor | None = None
    learned: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the part that the step reads."""
        shape = list(self.parameter.shape)
        if self.axis is not None and self.chosen is not None:
            shape[self.axis] = len(self.chosen)
        return tuple(shape)

    @property
    def part(self) -> str:
        """A description of the part that the step reads; empty for the whole parameter."""
        if self.chosen is None:
            return ""
        first, last = int(self.chosen[0]), int(self.chosen[-1])
        whole = last - first + 1 == len(self.chosen)
        return f"outputs {first}–{last}" if whole else f"{len(self.chosen)} outputs from {first}"

    @property
    def plane(self) -> tuple[int, int]:
        """The shape as rows and columns, the last dimension being the columns."""
        *others, columns = self.shape
        return math.prod(others), columns

    def window(self, rows: range, columns: range) -> NDArray[np.float32]:
        """Return some rows and columns, so that a large embedding table is never copied whole."""
        table = self.parameter.detach()
        table = table.reshape(-1, table.shape[-1])
        down, across = (torch.arange(part.start, part.stop) for part in (rows, columns))
        if self.axis is not None and self.chosen is not None:
            if self.axis == self.parameter.dim() - 1:
                across = self.chosen[across]
            else:
                down = self.chosen[down]
        values = table[down.to(table.device)][:, across.to(table.device)]
        return values.float().cpu().numpy()

    def values(self) -> NDArray[np.float32]:
        """Return all values that the step reads, in the parameter's own order of dimensions."""
        rows, columns = self.plane
        return self.window(range(rows), range(columns)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the pass, with its recomputed value.

    Attributes:
        name: the operation's standard name.
        part: "beginning", "attention", "mlp" or "end".
        gist: a description in a few words.
        sentence: a description in a plain sentence or two.
        formula: the formula, in terms of the inputs' symbols.
        axes: names of the value's dimensions.
        inputs: indices of the earlier steps that the step reads.
        weights: the parameters that the step reads.
        value: the value recomputed from those, in float32; the model's own if it could not be.
        agreement: the largest difference from the model's own value, relative to the row's largest
            magnitude; None if the model has no such value to compare with.
        reason: why the step is refused, in one line; empty if it agrees.
        by: "arithmetic" if llmscope computed the value, "module" if the model's module did, from
            the values of earlier steps.
        start: the prompt position of the first row, where only some rows were computed.
        layer: the layer; None for steps outside the layers.
        reads: maps the index of a cell to the cells of each input that it was computed from.
        made: maps the index of a cell to how it was computed; None if that is unknown.
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
    made: Callable[[tuple[int, ...]], Explanation] | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.value.shape

    @property
    def counts(self) -> bool:
        """Whether the values are token ids, whose mean is meaningless."""
        return self.name in ("tokens", "next token")

    def statistics(self) -> NDArray[np.float32]:
        """Return mean, population standard deviation, minimum, maximum and L2 norm.

        Over all finite cells of the value; NaN for token ids.
        """
        seen = self.value[np.isfinite(self.value)].astype(np.float64)
        if self.counts or not seen.size:
            return np.full(len(STATISTICS), np.nan, dtype=np.float32)
        numbers = (seen.mean(), seen.std(), seen.min(), seen.max(), np.linalg.norm(seen))
        return np.array(numbers, dtype=np.float32)

    def here(self, position: int, head: int, heads: int) -> tuple[NDArray[np.float32], str]:
        """Return the value at one position and head.

        Args:
            position: the position in the prompt.
            head: the query head.
            heads: number of query heads; several may share a key head.

        Returns:
            [index], and the name of the axis that the index runs over.
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
        """Return the value as rows and columns, of one head if there are several. [row, column]

        Args:
            head: the query head.
            heads: number of query heads; several may share a key head.
        """
        value, axes = self.value, list(self.axes)
        if "head" in axes and value.ndim > 2:
            at = axes.index("head")
            value = _cut(value, head * value.shape[at] // heads if heads else 0, at)
            axes.pop(at)
        if value.ndim == 1:
            value, axes = value[None], ["", *axes]
        return value, (axes[0], axes[1])


def _cut(value: NDArray[np.float32], index: int, axis: int) -> NDArray[np.float32]:
    """Return the value at one index of a dimension, and drop that dimension."""
    return np.asarray(np.take(value, index, axis), dtype=np.float32)


def disagreement(computed: Tensor, actual: Tensor, *, rows: int = 0, floor: float = 0.0) -> float:
    """Return the largest error of any row, relative to that row's largest magnitude.

    Args:
        computed: the recomputed value, in float64.
        actual: the model's own value, of the same shape.
        rows: the dimension of rows: a row holds all values of one token.
        floor: least magnitude to divide by: 1 for exponents, where an error of d changes a
            probability by a factor of 1 + d.
    """
    computed, actual = (tensor.movedim(rows, 0).flatten(1) for tensor in (computed, actual))
    smallest = max(floor, float(torch.finfo(torch.float32).tiny))
    scale = actual.abs().amax(-1).clamp(min=smallest)
    return float(((computed - actual).abs().amax(-1) / scale).max())
