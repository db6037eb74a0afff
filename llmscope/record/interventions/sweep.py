"""Sweeps: many passes over one prompt that differ in one change each.

They run in batches, those of the last layers first, for fewer layers have to run for them. What
is kept of a pass is its last stream after the token that is asked about: any question about the
answer is read off it later, and a sweep that was dropped goes on where it was.
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
"""How many tokens a batch has at most. Measured on two cores with SmolLM2, milliseconds a job of
32 tokens with a third of the layers: 17.7 in batches of 128 tokens, 13.1 of 512, 12.3 of 1024,
14.0 of 2048."""
TOKENS_ELSEWHERE = 4096
"""On anything that has more cores than that."""
WITH_CACHE = 4
"""So many times as many tokens may stand in the cache of a batch and run, together."""
CHUNK = 64
"""Last streams whose logits are held at once."""
ROOM = 1 << 28
"""Bytes of last streams that are kept with one recording: the oldest sweeps go first."""

Doubles = NDArray[np.float64]
Measure = Callable[[Tensor], Tensor]
"""From last streams to a number for each. `[job, width]` -> [job], float64 on the CPU"""


@dataclass(frozen=True)
class SweepRow:
    """The jobs of one row of a table.

    Attributes:
        row: its place in the table.
        depth: the first layer that runs for it; see `Passes.sweep`.
        columns: their places in the row.
        start: the first token that any of them changes.
        jobs: makes those of some columns.
    """

    row: int
    depth: int
    columns: tuple[int, ...]
    start: int
    jobs: Callable[[Sequence[int]], list[Job]]


@dataclass
class SweepMemo:
    """What is kept of a sweep.

    Attributes:
        streams: the last streams, by the row and the first column of a batch. [job, width]
        answers: what was read off them, by the question: a table, and which batches it holds.
    """

    streams: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    answers: dict[Hashable, tuple[Doubles, set[tuple[int, int]]]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The room that it takes."""
        tensors = self.streams.values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One change after another of the pass of a recording.

    Attributes:
        position: the token after which the answer is read.
        key: what the jobs depend on, beside the recording and the position.
        rows: in the order in which they run.
        shape: of the table.
    """

    recording: Recording
    position: int
    key: Hashable
    rows: tuple[SweepRow, ...]
    shape: tuple[int, int]

    @property
    def total(self) -> int:
        """How many jobs there are."""
        return sum(len(row.columns) for row in self.rows)

    def table(
        self, run: Passes, question: Hashable, measure: Measure
    ) -> Iterator[tuple[Doubles, int]]:
        """Ever more numbers [row, column], and how many jobs are done; NaN where none is known.

        First what is kept of it already, then one more each batch.

        Args:
            question: what the measure depends on.

        Raises:
            Cancelled: what was found is kept.
        """
        kept = self._kept()
        batches = list(self._batches())
        values, told = kept.answers.setdefault(question, (np.full(self.shape, np.nan), set()))

        def tell(row: SweepRow, columns: Sequence[int]) -> None:
            place = row.row, columns[0]
            if place not in told:
                chunks = torch.split(kept.streams[place], CHUNK)
                found = torch.cat([measure(chunk) for chunk in chunks])
                values[row.row, list(columns)] = found.numpy()
                told.add(place)

        done = 0
        for row, columns in batches:
            if (row.row, columns[0]) in kept.streams:
                tell(row, columns)
                done += len(columns)
        yield values.copy(), done
        for row, columns in batches:
            place = row.row, columns[0]
            if place not in kept.streams:
                jobs = row.jobs(columns)
                kept.streams[place] = run.sweep(self.recording, row.depth, jobs, self.position)
                tell(row, columns)
                done += len(columns)
                yield values.copy(), done

    def _batches(self) -> Iterator[tuple[SweepRow, tuple[int, ...]]]:
        device = self.recording.subject.device.type
        room, length = TOKENS.get(device, TOKENS_ELSEWHERE), self.position + 1
        for row in self.rows:
            start = 0 if self.recording.past is None else row.start
            most = max(1, min(room // (length - start), WITH_CACHE * room // length))
            for first in range(0, len(row.columns), most):
                yield row, row.columns[first : first + most]

    def _kept(self) -> SweepMemo:
        """What is kept with the recording, which is the newest there from now on."""
        sweeps: dict[Hashable, SweepMemo] = self.recording.memo.setdefault("sweeps", {})
        key = (self.position, self.key)
        sweeps[key] = kept = sweeps.pop(key, None) or SweepMemo()
        while len(sweeps) > 1 and sum(one.bytes for one in sweeps.values()) > ROOM:
            del sweeps[next(iter(sweeps))]
        return kept


def difference(logits: Tensor, target: int, versus: int | None) -> Tensor:
    """logit(target), less logit(versus) if there is one. `[..., token]` -> [...], float64"""
    chosen = logits[..., [target] if versus is None else [target, versus]].cpu().double()
    return chosen[..., 0] if versus is None else chosen[..., 0] - chosen[..., 1]


def differences(recording: Recording, position: int, target: int, versus: int | None) -> Measure:
    """Reads that difference off last streams after a token."""
    return lambda streams: difference(read(recording, streams, position), target, versus)


def divergences(recording: Recording, position: int, own: Tensor) -> Measure:
    """Reads KL(own ‖ that of the stream) off last streams, in nats. `own`: logits [token]"""
    return lambda streams: kl_divergence(own[None], read(recording, streams, position)).cpu()
