"""The origin of queries, keys and values, inferred from traced values.

A projection is a module call within the attention whose input is the attention's input. Which one
computed the queries, and with which of its columns, is inferred from its output: after a norm, a
rotation or a factor, if any, it equals the queries passed to the attention function. No module is
recognized by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from llmscope.record.norms import exact
from llmscope.record.walkthrough.arithmetic import Form
from llmscope.record.walkthrough.embedding import rows_of
from llmscope.record.walkthrough.step import disagreement
from llmscope.record.walkthrough.tracer import Call

GROUPS = 4
"""Number of blocks in a fused projection that was laid out for that many devices."""


@dataclass(frozen=True, eq=False)
class QkvOrigin:
    """How the queries, the keys or the values were computed.

    Attributes:
        call: the projection's call.
        columns: indices of the projection's outputs that were used; None: all of them.
        norm: the call of a norm after the projection; None: no norm.
        flat: whether that norm is over all heads at once.
        factor: the factor applied before the attention function is called.
        turned: the rotation; None: not rotated.
        projected: the model's own value after the projection. [head, row, head width]
        normed: the model's own value after the norm; None: no norm. [head, row, head width]
    """

    call: Call
    columns: Tensor | None
    norm: Call | None
    flat: bool
    factor: float
    turned: Form | None
    projected: Tensor
    normed: Tensor | None

    @property
    def taken(self) -> tuple[int, tuple[int, ...]]:
        """The projection and first column, which no other of the three can share."""
        columns = () if self.columns is None else tuple(self.columns[:1].tolist())
        return id(self.call), columns


def find(
    target: Tensor,
    which: int,
    heads: tuple[int, int],
    calls: list[Call],
    read: Tensor,
    turns: list[Form],
    used: set[tuple[int, tuple[int, ...]]],
    near: float,
) -> QkvOrigin | None:
    """Return the origin of queries (`which` 0), keys (1) or values (2); None if not found.

    Args:
        target: the tensor passed to the attention function. [head, row, head width]
        which: 0 for queries, 1 for keys, 2 for values.
        heads: number of query heads, and of key and value heads.
        calls: module calls within the attention.
        read: the attention's input. [row, width]
        turns: rotations to try.
        used: `QkvOrigin.taken` of the origins already found.
        near: largest relative difference from the target for an origin to be accepted.
    """
    count, length, width = target.shape
    actual = exact(target)
    projections = [
        (call, columns, rows_of(call.gave))
        for call in calls
        if call.given is not None and call.gave is not None
        and call.given.shape[-1] == read.shape[-1]
        and torch.equal(rows_of(call.given), read)
        for columns in layouts(call.gave.shape[-1], which, heads, width)
    ]  # fmt: skip
    best: tuple[float, QkvOrigin] | None = None
    for call, columns, rows in projections:
        if len(rows) != length:
            continue
        out = rows if columns is None else rows[:, columns.to(rows.device)]
        split = exact(out).reshape(length, count, width).transpose(0, 1)
        for norm, flat, normed in ((None, False, None), *_norms_after(calls, out, split.shape)):
            before = split if normed is None else normed
            for turn, factor, off in _ways(before, actual, turns, width):
                origin = QkvOrigin(call, columns, norm, flat, factor, turn, split, normed)
                if origin.taken not in used and (best is None or off < best[0]):
                    best = (off, origin)
    return best[1] if best is not None and best[0] < near else None


def _ways(
    before: Tensor, actual: Tensor, turns: list[Form], width: int
) -> Iterator[tuple[Form | None, float, float]]:
    """Yield rotations and factors from `before` to `own`, each with its relative error."""
    for turn in (None, *turns):
        with suppress(RuntimeError):  # angles for more dimensions than a head has
            turned = before if turn is None else turn[1](before)
            for factor in (1.0, width**-0.5):
                off = disagreement(turned * factor, actual, rows=1)
                if off == off:  # not NaN
                    yield turn, factor, off


def _norms_after(
    calls: list[Call], out: Tensor, shape: torch.Size
) -> Iterator[tuple[Call, bool, Tensor]]:
    """Yield norms within the attention whose input is a projection's output, and their outputs."""
    heads, length, width = shape
    for call in calls:
        inputs, gave = call.given, call.gave
        if (
            inputs is None
            or gave is None
            or inputs.shape != gave.shape
            or inputs.numel() != out.numel()
        ):
            continue
        if inputs.shape[-1] == heads * width and torch.equal(rows_of(inputs), out):
            yield call, True, exact(gave).reshape(length, heads, width).transpose(0, 1)
        elif inputs.shape[-1] == width:
            split = out.reshape(length, heads, width)
            for flipped in (False, True):
                ordered = split.transpose(0, 1) if flipped else split
                if torch.equal(inputs.reshape(-1), ordered.reshape(-1)):
                    normed = exact(gave).reshape(ordered.shape)
                    yield call, False, normed if flipped else normed.transpose(0, 1)
                    break


def layouts(total: int, which: int, heads: tuple[int, int], width: int) -> Iterator[Tensor | None]:
    """Yield the outputs of a projection that may be the queries, keys or values; None: all.

    For a fused projection: a block of [q | k | v], a part of each group of heads
    [group, (queries of the group, key, value), head width], or groups of blocks [q | v | k].
    """
    queries, shared = heads
    count = queries if which == 0 else shared
    if total == count * width:
        yield None
    elif total == (queries + 2 * shared) * width:
        start = (0, queries, queries + shared)[which] * width
        yield torch.arange(start, start + count * width)
        group = queries // shared
        grouped = torch.arange(total).reshape(shared, group + 2, width)
        part = (slice(0, group), slice(group, group + 1), slice(group + 1, group + 2))[which]
        yield grouped[:, part].reshape(-1)
        if queries == shared and (count * width) % GROUPS == 0:
            blocks = torch.arange(total).reshape(GROUPS, 3, -1)
            yield blocks[:, (0, 2, 1)[which]].reshape(-1)
