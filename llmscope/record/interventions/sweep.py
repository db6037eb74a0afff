"""Sweeps: many passes over one prompt, with a different change in each.

They run in batches, starting with changes in the last layers, which need the fewest layers to run.
Of each pass, the stream after the last layer is kept at the position in question: any measure of
the logits is computed from it later, and a cancelled sweep continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.capture.extra_passes import Passes, read
from llmscope.record.capture.recording import Recording
from llmscope.record.change_hooks import Job
from llmscope.record.derive.kl import kl_divergence

TOKENS = {"cpu": 1024}
"""Most tokens of a batch. Measured on two cores with SmolLM2, in milliseconds per job of 32 tokens
with a third of the layers: 17.7 in batches of 128 tokens, 13.1 of 512, 12.3 of 1024, 14.0 of
2048."""
TOKENS_ELSEWHERE = 4096
"""Most tokens of a batch on other devices, which have more cores than that."""
FIXED = {"cpu": 64}
"""What a layer costs besides its tokens, in tokens. Measured on two cores with SmolLM2: 2.6 ms and
0.035 ms per token."""
FIXED_ELSEWHERE = 512
"""The same on other devices. Estimated from the time of launching a layer's kernels, not measured.
"""
WITH_CACHE = 4
"""Most tokens of a batch including those in its cache, as a multiple of the numbers above."""
CHUNK = 64
"""Number of last streams whose logits are held at once."""
ROOM = 1 << 28
"""Most bytes of last streams kept with one recording: the oldest sweeps are dropped first."""

Doubles = NDArray[np.float64]
Measure = Callable[[Tensor], Tensor]
"""Maps last streams to a number for each. `[job, width]` -> [job], float64 on the CPU"""


@dataclass(frozen=True)
class SweepRow:
    """The jobs of one row of a table.

    Attributes:
        row: the row's index in the table.
        depth: the first layer that runs; see `Passes.sweep`.
        columns: the jobs' columns.
        start: the first token that any job changes.
        jobs: makes the jobs of some columns.
    """

    row: int
    depth: int
    columns: tuple[int, ...]
    start: int
    jobs: Callable[[Sequence[int]], list[Job]]


Piece = tuple[SweepRow, tuple[int, ...]]
"""A row, and those of its columns that run in one batch."""


@dataclass
class SweepMemo:
    """The cached results of a sweep.

    Attributes:
        streams: the last stream of each job, by its row and column. [width]
        answers: by question, the measured number of each job.
    """

    streams: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    answers: dict[Hashable, dict[tuple[int, int], float]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of the streams in bytes."""
        tensors = self.streams.values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A series of changes of a recording's pass, each made in a pass of its own.

    Attributes:
        recording: the recording.
        position: the token at which the logits are measured.
        key: the values that the jobs depend on, besides the recording and the position.
        rows: the rows in the order in which they run.
        shape: the shape of the table.
    """

    recording: Recording
    position: int
    key: Hashable
    rows: tuple[SweepRow, ...]
    shape: tuple[int, int]

    @property
    def total(self) -> int:
        """The number of jobs."""
        return sum(len(row.columns) for row in self.rows)

    def table(
        self, run: Passes, question: Hashable, measure: Measure
    ) -> Iterator[tuple[Doubles, int]]:
        """Yield the table [row, column] as it fills up, and how many jobs are done.

        Unknown numbers are NaN. First the cached results are yielded, then one table per batch.

        Args:
            run: runs the passes.
            question: the values that the measure depends on; None: its numbers are not kept.
            measure: computes the numbers from last streams.

        Raises:
            Cancelled: the sweep was cancelled. Finished batches are kept.
        """
        memo = self._memo()
        answers = {} if question is None else memo.answers.setdefault(question, {})
        values = np.full(self.shape, np.nan)

        def fill(cells: Sequence[tuple[int, int]]) -> None:
            unknown = [cell for cell in cells if cell not in answers]
            for first in range(0, len(unknown), CHUNK):
                chunk = unknown[first : first + CHUNK]
                numbers = measure(torch.stack([memo.streams[cell] for cell in chunk]))
                answers.update(zip(chunk, numbers.tolist(), strict=True))
            for cell in cells:
                values[cell] = answers[cell]

        cells = [(row.row, column) for row in self.rows for column in row.columns]
        known = [cell for cell in cells if cell in memo.streams]
        fill(known)
        done = len(known)
        yield values.copy(), done
        for pieces in self._batches(memo, apart=run.one_by_one):
            jobs = [job for row, columns in pieces for job in row.jobs(columns)]
            depth = min(row.depth for row, _ in pieces)
            streams = run.sweep(self.recording, depth, jobs, self.position)
            batch = [(row.row, column) for row, columns in pieces for column in columns]
            memo.streams.update(zip(batch, streams, strict=True))
            fill(batch)
            done += len(batch)
            yield values.copy(), done

    def _batches(self, memo: SweepMemo, *, apart: bool) -> list[list[Piece]]:
        """Return the pieces of each batch that has to run, in the order of the rows.

        Several rows share a batch, which starts at the first layer of any of them, where running
        the layers that a row does not need costs less than a batch of its own.

        Args:
            memo: the jobs that have run.
            apart: whether each job runs alone, so that nothing is gained by a shared batch.
        """
        pieces: list[Piece] = []
        for row in self.rows:
            left = tuple(c for c in row.columns if (row.row, c) not in memo.streams)
            size = self._size(row.start)
            pieces += [(row, left[at : at + size]) for at in range(0, len(left), size)]
        if apart:
            return [[piece] for piece in pieces]
        cheapest_to = [0.0]  # the cost of the first pieces, and where the last batch of them starts
        starts = [0]
        for stop in range(1, len(pieces) + 1):
            options = []
            for start in reversed(range(stop)):
                cost = self._cost(pieces[start:stop])
                if cost is None:
                    break
                options.append((cheapest_to[start] + cost, start))
            cheapest, start = min(options)
            cheapest_to.append(cheapest)
            starts.append(start)
        batches: list[list[Piece]] = []
        stop = len(pieces)
        while stop:
            batches.append(pieces[starts[stop] : stop])
            stop = starts[stop]
        return batches[::-1]

    def _cost(self, pieces: Sequence[Piece]) -> float | None:
        """Return what a batch costs, in tokens times layers; None if it would be too large."""
        layers, depths = self.recording.layers, [row.depth for row, _ in pieces]
        start = min(row.start for row, _ in pieces)
        jobs = sum(len(columns) for _, columns in pieces)
        # Without a layer to run, nothing is gained by sharing a batch.
        if len(pieces) > 1 and (jobs > self._size(start) or max(depths) == layers > min(depths)):
            return None
        fixed = FIXED.get(self.recording.model.device.type, FIXED_ELSEWHERE)
        return (layers - min(depths)) * (fixed + jobs * self._tokens(start))

    def _tokens(self, start: int) -> int:
        """Return the tokens that run for each job, if the first that any job changes is `start`."""
        return self.position + 1 - (0 if self.recording.past is None else start)

    def _size(self, start: int) -> int:
        """Return the most jobs of a batch. `start`: the first token that any of them changes."""
        room = TOKENS.get(self.recording.model.device.type, TOKENS_ELSEWHERE)
        return max(1, min(room // self._tokens(start), WITH_CACHE * room // (self.position + 1)))

    def _memo(self) -> SweepMemo:
        """Return the memo that is kept with the recording, and mark it as the newest there."""
        sweeps: dict[Hashable, SweepMemo] = self.recording.memo.setdefault("sweeps", {})
        key = (self.position, self.key)
        sweeps[key] = newest = sweeps.pop(key, None) or SweepMemo()
        while len(sweeps) > 1 and sum(memo.bytes for memo in sweeps.values()) > ROOM:
            del sweeps[next(iter(sweeps))]
        return newest


def difference(logits: Tensor, target: int, versus: int | None) -> Tensor:
    """Return logit(target), minus logit(versus) if not None. `[..., token]` -> [...], float64"""
    chosen = logits[..., [target] if versus is None else [target, versus]].cpu().double()
    return chosen[..., 0] if versus is None else chosen[..., 0] - chosen[..., 1]


def measured(recording: Recording, position: int, value: Callable[[Tensor], Tensor]) -> Measure:
    """Return a measure that applies `value` to the logits of last streams at a position.

    Args:
        recording: the recording.
        position: the token.
        value: a number for each row of logits. `[..., token]` -> [...]
    """
    return lambda streams: value(read(recording, streams, position)).detach().cpu().double()


def divergences(recording: Recording, position: int, ours: Tensor) -> Measure:
    """Return a measure of KL(own ‖ the stream's prediction) in nats. `own`: logits [token]"""
    return lambda streams: kl_divergence(ours[None], read(recording, streams, position)).cpu()
