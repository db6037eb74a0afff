"""The logit lens: the readout of the stream after each layer, memoized with the recorded rows.

A cell costs as much as a token's logits, so only the cells that are displayed are read, and only a
few numbers of each leave the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.analysis.tuned_lens import Translators
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.derive.tensors import logits

ROWS = 64
"""Streams of one recording that are read in one batch."""
TOGETHER = 128
"""The same for several recordings, which are not displayed one by one as they are read."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Readings:
    """Logit lens predictions where the streams were read; NaN elsewhere. All `[layer + 1, row]`.

    Layer index 0 is the embedding, the others are the streams after each layer.

    Attributes:
        token: id of the most probable next token.
        probability: that token's probability.
        target: the probability of the target.
        rank: the rank of the target among all tokens, from 1.
    """

    token: Floats
    probability: Floats
    target: Floats
    rank: Floats


def read(
    recording: Recording,
    columns: Sequence[int],
    target: int | None = None,
    translated: Translators | None = None,
) -> None:
    """Read the streams of these positions at every layer, except those already read.

    Args:
        columns: the positions.
        target: a token whose probability and rank are wanted; None: only the top tokens are.
        translated: tuned lens translators applied to each stream before it is read; None: none.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    wanted = _lacking(recording, columns, target, translated)
    for start in range(0, len(wanted), ROWS):
        _read(wanted[start : start + ROWS], translated)


def read_together(
    asked: Sequence[tuple[Recording, Sequence[int], int | None]],
    translated: Translators | None = None,
) -> None:
    """Read streams of several recordings of one model, as `read` does, in larger, faster batches.

    Args:
        asked: recordings, each with its positions and its target.
        translated: as for `read`.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    wanted = [cell for one in asked for cell in _lacking(*one, translated)]
    for start in range(0, len(wanted), TOGETHER):
        _read(wanted[start : start + TOGETHER], translated)


def readings(
    recording: Recording, target: int | None = None, translated: Translators | None = None
) -> Readings:
    """Return all predictions read so far with this target and these translators."""
    parts = [
        _memo(segment, recording.layers, target, translated)[:, :, :count]
        for segment, count in recording.parts
    ]
    return Readings(*np.concatenate(parts, axis=2))


@dataclass(frozen=True)
class _Cell:
    """One stream to read, and the memo to write its predictions to. `memo`: [2 or 4]"""

    recording: Recording
    layer: int
    column: int
    target: int | None
    memo: Floats


def _lacking(
    recording: Recording,
    columns: Sequence[int],
    target: int | None,
    translated: Translators | None,
) -> list[_Cell]:
    """Return the cells of these positions that were not read yet."""
    found: list[_Cell] = []
    known, used = (0, 2) if target is None else (2, 4)
    for column in columns:
        segment, row = recording.segment_at(column)
        memo = _memo(segment, recording.layers, target, translated)[:, :, row]  # [4, layer + 1]
        found += [
            _Cell(recording, int(layer), column, target, memo[:used, layer])
            for layer in np.flatnonzero(np.isnan(memo[known]))
        ]
    return found


def scores_at(
    recording: Recording, layer: int, column: int, translated: Translators | None = None
) -> Tensor:
    """Return what the logits would be if the model stopped after a layer, in float32. [token]

    Args:
        recording: the recording.
        layer: the layer, from 0.
        column: the position.
        translated: as for `read`.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    unused = np.zeros(2, dtype=np.float32)
    return _scores([_Cell(recording, layer + 1, column, None, unused)], translated)[0]


@torch.no_grad()
def _scores(cells: Sequence[_Cell], translated: Translators | None) -> Tensor:
    """Return the logits of each stream, in float32. [cell, token]"""
    readout = cells[0].recording.subject.anatomy.require_readout()
    streams = torch.stack([stream_after(cell.recording, cell.layer, cell.column) for cell in cells])
    if translated is not None:
        streams = translated(streams, [cell.layer for cell in cells])
    scores = readout(streams).float()  # [cell, token]
    for index, cell in enumerate(cells):
        recording, last = cell.recording, cell.recording.layers
        if cell.layer == last and any(
            change.frozen and change.layer == last for change in recording.changes
        ):
            # An edit freezes the final norm: take the model's own logits, computed with it.
            scores[index] = logits(recording, cell.column, cell.column + 1)[0]
    return scores


@torch.no_grad()
def _read(cells: Sequence[_Cell], translated: Translators | None) -> None:
    scores = _scores(cells, translated)
    total = scores.logsumexp(-1)
    best = scores.max(-1)
    read = [best.indices, (best.values - total).exp()]
    if any(cell.target is not None for cell in cells):
        targets = [cell.target or 0 for cell in cells]
        aimed = scores.gather(1, torch.tensor(targets, device=scores.device)[:, None])  # [cell, 1]
        read += [(aimed[:, 0] - total).exp(), (scores > aimed).sum(-1) + 1]
    found = torch.stack([values.float() for values in read]).cpu().numpy()  # [2 or 4, cell]
    for cell, values in zip(cells, found.T, strict=True):
        cell.memo[:] = values[: len(cell.memo)]


def stream_after(recording: Recording, layer: int, column: int) -> Tensor:
    """Return the stream of one token before `layer`. [width]

    Where `layer` is the number of layers, that is the stream after the last one.
    """
    segment, row = recording.segment_at(column)
    last = layer == len(segment.layers)
    stream: Tensor = (segment.final if last else segment.layers[layer].stream)[row]
    return stream.to(segment.final.device)


def _memo(
    segment: Segment, layers: int, target: int | None, translated: Translators | None
) -> Floats:
    """Return the memo of a segment. `[4, layer + 1, row]`

    A new target clears the target's rows but not the top tokens, which do not depend on it; other
    translators clear all.
    """
    kept, how, memo = segment.memo.get("logit lens", (None, None, None))
    if memo is None or how is not translated:
        kept, memo = target, np.full((4, layers + 1, len(segment)), np.nan, dtype=np.float32)
    elif target is not None and kept != target:
        kept, memo[2:] = target, np.nan
    segment.memo["logit lens"] = (kept, translated, memo)
    found: Floats = memo
    return found
