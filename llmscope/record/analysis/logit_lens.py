"""The logit lens: the readout of the stream after each layer, memoized with the recorded rows.

The streams may pass a learned lens first. A cell costs as much as a token's logits, so only the
cells that are displayed are read, and only a few numbers of each leave the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.learned.lenses.lens import LearnedLens
from llmscope.record.capture.prefetch import LENS, take_lens
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.derive.kl import kl_divergence
from llmscope.record.derive.tensors import logits
from llmscope.record.fetch import Fetching, fetched, on_cpu

ROWS = 64
"""Streams of one recording that are read in one batch."""
TOGETHER = 128
"""The same for several recordings, which are not displayed one by one as they are read."""
TOP, TARGET, KL = (0, 1), (2, 3), (4,)
"""Places of the numbers of a cell in its memo."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LensReadings:
    """Logit lens predictions where the streams were read; NaN elsewhere. All `[layer + 1, row]`.

    Layer index 0 is the embedding, the others are the streams after each layer.

    Attributes:
        token: id of the most probable next token.
        probability: that token's probability.
        target: the probability of the target.
        rank: the rank of the target among all tokens, from 1.
        kl: KL(model's own prediction ‖ this one), in nats.
    """

    token: Floats
    probability: Floats
    target: Floats
    rank: Floats
    kl: Floats


@dataclass(frozen=True)
class OneStream:
    """Reads one of a model's residual streams, as if each of them were this one.

    Attributes:
        index: the stream, from 0.
        count: how many streams the model keeps.
    """

    index: int
    count: int

    def __call__(self, streams: Tensor, layers: Sequence[int]) -> Tensor:
        """Return the stream in the place of all. [cell, stream · width]"""
        apart = streams.reshape(len(streams), self.count, -1)  # [cell, stream, width]
        return apart[:, self.index].repeat(1, self.count)


@dataclass(frozen=True)
class LensReading:
    """What is read of each stream besides its likeliest token.

    Attributes:
        target: a token whose probability and rank are wanted; None: only the top tokens are.
        kl: whether the divergence from the model's own prediction is wanted.
        lens: the learned lens that each stream passes first, or the one of several residual
            streams that is read; None reads all as they are.
    """

    target: int | None = None
    kl: bool = False
    lens: LearnedLens | OneStream | None = None

    @property
    def wanted(self) -> tuple[int, ...]:
        """The places of a cell's memo that are to be filled."""
        return (*TOP, *(() if self.target is None else TARGET), *(KL if self.kl else ()))


def read(recording: Recording, columns: Sequence[int], reading: LensReading) -> Fetching[None]:
    """Read the streams of these positions at every layer, except those already read.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    wanted = _lacking(recording, columns, reading)
    for start in range(0, len(wanted), ROWS):
        yield from _read(wanted[start : start + ROWS])


def lacks(recording: Recording, columns: Sequence[int], reading: LensReading) -> bool:
    """Return whether `read` has anything to do for these positions."""
    return any(_lacking(recording, [column], reading) for column in columns)


def read_together(requests: Sequence[tuple[Recording, Sequence[int], LensReading]]) -> None:
    """Read streams of several recordings of one model, as `read` does, in larger, faster batches.

    Args:
        requests: recordings, each with its positions and what is read; all through the same lens.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    wanted = [cell for request in requests for cell in _lacking(*request)]
    for start in range(0, len(wanted), TOGETHER):
        fetched(_read(wanted[start : start + TOGETHER]))


def readings(recording: Recording, reading: LensReading, rows: range) -> LensReadings:
    """Return the predictions of some rows, as far as they were read, and NaN elsewhere.

    Args:
        recording: the recording.
        reading: the target and the lens of the predictions.
        rows: positions in the prompt.
    """
    parts = [
        _memo(segment, recording.layers, reading)[:, :, :count]
        for segment, count in recording.parts
    ]
    values = np.concatenate(parts, axis=2)  # [number, layer + 1, row], a copy
    if shared := _shared_streams(recording, reading):
        assert recording.base is not None
        below = readings(recording.base, reading, rows)
        predictions = (below.token, below.probability, below.target, below.rank)
        values[[*TOP, *TARGET], :shared] = np.stack(predictions)[:, :shared]
    values[:, :, : rows.start] = np.nan
    values[:, :, rows.stop :] = np.nan
    return LensReadings(*values)


@dataclass(frozen=True)
class _Cell:
    """One stream to read, and the memo to write its predictions to. `memo`: [5]"""

    recording: Recording
    layer: int
    column: int
    reading: LensReading
    memo: Floats


def _lacking(recording: Recording, columns: Sequence[int], reading: LensReading) -> list[_Cell]:
    """Return the cells of these positions that were not read yet."""
    cells: list[_Cell] = []
    wanted = list(reading.wanted)
    if shared := _shared_streams(recording, reading):
        assert recording.base is not None
        below = _lacking(recording.base, columns, reading)
        cells += [cell for cell in below if cell.layer < shared]
    for column in columns:
        segment, row = recording.segment_at(column)
        memo = _memo(segment, recording.layers, reading)[:, shared:, row]  # [5, layer + 1 - shared]
        cells += [
            _Cell(recording, shared + int(layer), column, reading, memo[:, layer])
            for layer in np.flatnonzero(np.isnan(memo[wanted]).any(0))
        ]
    return cells


def _shared_streams(recording: Recording, reading: LensReading) -> int:
    """Return how many streams are those of the pass without edits, from the embedding on.

    Their predictions are read once, however often an edit changes: a strength that is turned reads
    the layers from its own on. 0 where they are read for this recording alone: a fresh pass shares
    nothing, and a divergence is from the edited prediction.
    """
    if recording.base is None or recording.fresh or reading.kl:
        return 0
    return recording.depth


def scores_at(
    recording: Recording,
    layers: Sequence[int],
    column: int,
    lens: LearnedLens | OneStream | None = None,
) -> Tensor:
    """Return what the logits would be if the model stopped there, in float32. [layer, token]

    Args:
        recording: the recording.
        layers: the layers, from 0; -1 is the embedding.
        column: the position.
        lens: as of `LensReading`.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    unused, reading = np.zeros(5, dtype=np.float32), LensReading(lens=lens)
    return _scores([_Cell(recording, layer + 1, column, reading, unused) for layer in layers])


@torch.no_grad()
def _scores(cells: Sequence[_Cell]) -> Tensor:
    """Return the logits of each stream, in float32. [cell, token]"""
    readout, lens = cells[0].recording.model.anatomy.require_readout(), cells[0].reading.lens
    if (cached := _computed_scores(cells)) is not None:
        return readout.scaled(cached).float()
    streams = torch.stack([stream_after(cell.recording, cell.layer, cell.column) for cell in cells])
    if lens is not None:
        streams = lens(streams, [cell.layer for cell in cells])
    scores = readout(streams).float()  # [cell, token]
    for index, cell in enumerate(cells):
        recording, last = cell.recording, cell.recording.layers
        if cell.layer == last and any(
            change.frozen and change.layer == last for change in recording.changes
        ):
            # An edit freezes the final norm: take the model's own logits, computed with it.
            scores[index] = logits(recording, cell.column, cell.column + 1)[0]
    return scores


def _computed_scores(cells: Sequence[_Cell]) -> Tensor | None:
    """Return what the pass has computed of all cells, before scale and softcap. [cell, token]

    None if it did not, or if they are not all layers of the last token.
    """
    first, layers = cells[0], range(cells[0].recording.layers + 1)
    if first.recording.changes:
        return None
    last = len(first.recording) - 1
    if [(cell.layer, cell.column) for cell in cells] != [(layer, last) for layer in layers]:
        return None
    if any(cell.recording is not first.recording for cell in cells):
        return None
    lens = first.reading.lens
    return None if isinstance(lens, OneStream) else take_lens(first.recording, lens)


@torch.no_grad()
def _read(cells: Sequence[_Cell]) -> Fetching[None]:
    scores = _scores(cells)
    best = _largest(scores)[:, None]  # [cell, 1]
    read: dict[int, Tensor] = {TOP[0]: best[:, 0]}
    if targeted := any(cell.reading.target is not None for cell in cells):
        targets = [cell.reading.target or 0 for cell in cells]
        aimed = torch.tensor(targets, device=scores.device)[:, None]  # [cell, 1]
        read[TARGET[1]] = (scores > scores.gather(1, aimed)).sum(-1) + 1
    if any(cell.reading.kl for cell in cells):
        read |= zip(KL, (kl_divergence(_own(cells), scores),), strict=True)
    # Last of all, on a CPU in place: fresh memory for all these numbers would take as long again.
    shares = torch.softmax(scores, -1, out=scores if scores.device.type == "cpu" else None)
    read[TOP[1]] = shares.gather(1, best)[:, 0]
    if targeted:
        read[TARGET[0]] = shares.gather(1, aimed)[:, 0]
    (near,) = yield from on_cpu(torch.stack([values.float() for values in read.values()]))
    places = list(read)
    for cell, values in zip(cells, near.numpy().T, strict=True):
        wanted = set(cell.reading.wanted)
        for place, value in zip(places, values, strict=True):
            if place in wanted:
                cell.memo[place] = value


def _largest(scores: Tensor) -> Tensor:
    """Return the token with the largest logit. `[cell, token]` -> [cell]

    On a CPU numpy finds it in a third of the time.
    """
    if scores.device.type != "cpu":
        return scores.argmax(-1)
    return torch.from_numpy(scores.numpy().argmax(-1))


def _own(cells: Sequence[_Cell]) -> Tensor:
    """Return the model's own logits at the position of each cell. [cell, token]"""
    known: dict[tuple[int, int], Tensor] = {}
    for cell in cells:
        key = id(cell.recording), cell.column
        if key not in known:
            known[key] = logits(cell.recording, cell.column, cell.column + 1)[0]
    return torch.stack([known[id(cell.recording), cell.column] for cell in cells])


def stream_after(recording: Recording, layer: int, column: int) -> Tensor:
    """Return the stream of one token before `layer`. [width]

    Where `layer` is the number of layers, that is the stream after the last one.
    """
    segment, row = recording.segment_at(column)
    if segment.released or segment.used is not None:
        rows = recording.rows("stream", layer, range(column, column + 1))
        assert rows is not None
        return rows[0].to(segment.final.device)
    last = layer == len(segment.layers)
    stream: Tensor = (segment.final if last else segment.layers[layer].stream)[row]
    return stream.to(segment.final.device)


def _memo(segment: Segment, layers: int, reading: LensReading) -> Floats:
    """Return the memo of a segment for one lens. `[5, layer + 1, row]`

    A new target clears the target's rows but not the others, which do not depend on it.
    """
    by_lens = segment.memo.setdefault(LENS, {})
    target, memo = by_lens.get(reading.lens, (None, None))
    if memo is None:
        target = reading.target
        memo = np.full((5, layers + 1, len(segment)), np.nan, dtype=np.float32)
    elif reading.target is not None and target != reading.target:
        target, memo[2:4] = reading.target, np.nan
    by_lens[reading.lens] = (target, memo)
    memo_readings: Floats = memo
    return memo_readings
