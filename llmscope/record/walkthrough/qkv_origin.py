"""Where queries, keys and values come from, told from the numbers that passed.

A projection is a call within the attention that was handed what the attention reads. Which one
made the queries, and which of its columns, is told by what came out: after a norm, a rotation or a
factor, if there are any, it is what attention was called with. No module is known by its name.
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
"""Of a projection that was laid out for so many devices."""


@dataclass(frozen=True, eq=False)
class QkvOrigin:
    """How one of the three came about.

    Attributes:
        call: the projection's call; `columns`: those of its outputs; None: all of them.
        norm: the call of a norm that follows; `flat`: it is over all heads at once.
        factor: what it is multiplied by before attention is called; turned: how it is rotated.
        projected, normed: the model's own values on the way. [head, row, head width]
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
        """What no other of the three can come from."""
        columns = () if self.columns is None else tuple(self.columns[:1].tolist())
        return id(self.call), columns


def find(
    target: Tensor,
    which: int,
    heads: tuple[int, int],
    calls: list[Call],
    read: Tensor,
    turns: list[Form],
    taken: set[tuple[int, tuple[int, ...]]],
    near: float,
) -> QkvOrigin | None:
    """The source of queries (`which` 0), keys (1) or values (2). None: it cannot be told.

    Args:
        target: as attention was called with. [head, row, head width]
        heads: of queries, and of keys and values.
        calls: within the attention.
        read: what the attention was handed. [row, width]
        turns: ways to turn a head, to be tried.
        taken: what the others came from.
        near: how far what is made of a source may be from the target.
    """
    count, length, width = target.shape
    own = exact(target)
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
        for norm, flat, normed in ((None, False, None), *_normed(calls, out, split.shape)):
            before = split if normed is None else normed
            for turn, factor, off in _ways(before, own, turns, width):
                found = QkvOrigin(call, columns, norm, flat, factor, turn, split, normed)
                if found.taken not in taken and (best is None or off < best[0]):
                    best = (off, found)
    return best[1] if best is not None and best[0] < near else None


def _ways(
    before: Tensor, own: Tensor, turns: list[Form], width: int
) -> Iterator[tuple[Form | None, float, float]]:
    """Rotations and factors that lead from one to the other, each with what it leaves."""
    for turn in (None, *turns):
        with suppress(RuntimeError):  # angles for more dimensions than a head has
            turned = before if turn is None else turn[1](before)
            for factor in (1.0, width**-0.5):
                off = disagreement(turned * factor, own, rows=1)
                if off == off:  # no NaN
                    yield turn, factor, off


def _normed(
    calls: list[Call], out: Tensor, shape: torch.Size
) -> Iterator[tuple[Call, bool, Tensor]]:
    """Norms within the attention that were handed a projection's output, with what they gave."""
    heads, length, width = shape
    for call in calls:
        given, gave = call.given, call.gave
        if (
            given is None
            or gave is None
            or given.shape != gave.shape
            or given.numel() != out.numel()
        ):
            continue
        if given.shape[-1] == heads * width and torch.equal(rows_of(given), out):
            yield call, True, exact(gave).reshape(length, heads, width).transpose(0, 1)
        elif given.shape[-1] == width:
            split = out.reshape(length, heads, width)
            for flipped in (False, True):
                ordered = split.transpose(0, 1) if flipped else split
                if torch.equal(given.reshape(-1), ordered.reshape(-1)):
                    own = exact(gave).reshape(ordered.shape)
                    yield call, False, own if flipped else own.transpose(0, 1)
                    break


def layouts(total: int, which: int, heads: tuple[int, int], width: int) -> Iterator[Tensor | None]:
    """Which outputs of a projection may be the queries, keys or values.

    All of them; or of a fused one a block [q | k | v], or a part of each group of heads
    [group, (queries of the group, key, value), head width]; or groups of blocks [q | v | k].
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
