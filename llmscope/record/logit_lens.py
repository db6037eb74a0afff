"""The logit lens: the readout of the stream after each layer, kept with the rows once computed.

A cell costs as much as a token's logits, so only those that somebody looks at are read, and of
each no more than a few numbers leave the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.derive import logits
from llmscope.record.recording import Recording, Segment
from llmscope.record.translators import Translators

ROWS = 64
"""Streams that are read at once."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Readings:
    """What the streams say where they were read; NaN elsewhere. All `[layer + 1, row]`.

    The first row is the embedding's, the others are the streams after each layer.

    Attributes:
        token: id of the most probable next token.
        probability: its probability.
        target: the probability of the target.
        rank: the place of the target among all tokens, from 1.
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
    """Read the streams of these positions, as far as it was not done yet.

    Args:
        target: a token whose probability and rank are wanted; None: the top tokens will do.
        translated: what each stream passes through before it is read.

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    known = 0 if target is None else 2
    wanted = [
        (int(layer), column)
        for column in columns
        for layer in np.flatnonzero(np.isnan(_cell(recording, column, target, translated)[known]))
    ]
    for start in range(0, len(wanted), ROWS):
        _read(recording, wanted[start : start + ROWS], target, translated)


def readings(
    recording: Recording, target: int | None = None, translated: Translators | None = None
) -> Readings:
    """All that was read so far, in the same way."""
    parts = [
        _memo(segment, recording.layers, target, translated)[:, :, :count]
        for segment, count in recording.parts
    ]
    return Readings(*np.concatenate(parts, axis=2))


@torch.no_grad()
def _read(
    recording: Recording,
    cells: Sequence[tuple[int, int]],
    target: int | None,
    translated: Translators | None,
) -> None:
    readout = recording.subject.anatomy.readout
    if readout is None:
        raise ValueError("the model has no unembedding that was found")
    streams = torch.stack([stream_after(recording, layer, column) for layer, column in cells])
    if translated is not None:
        streams = translated(streams, [layer for layer, _ in cells])
    scores = readout(streams).float()  # [cell, token]
    if any(change.frozen and change.layer == recording.layers for change in recording.changes):
        # What the model says is read with the norm that an edit holds still.
        for cell, (layer, column) in enumerate(cells):
            if layer == recording.layers:
                scores[cell] = logits(recording, column, column + 1)[0]
    total = scores.logsumexp(-1)
    best = scores.max(-1)
    read = [best.indices, (best.values - total).exp()]
    if target is not None:
        aimed = scores[:, target]
        read += [(aimed - total).exp(), (scores > aimed[:, None]).sum(-1) + 1]
    found = torch.stack([values.float() for values in read]).cpu().numpy()  # [2 or 4, cell]
    for (layer, column), values in zip(cells, found.T, strict=True):
        _cell(recording, column, target, translated)[: len(values), layer] = values


def stream_after(recording: Recording, layer: int, column: int) -> Tensor:
    """The stream of one token before a layer; after the last one for their number. [width]"""
    segment, row = _place(recording, column)
    last = layer == len(segment.layers)
    stream: Tensor = (segment.final if last else segment.layers[layer].stream)[row]
    return stream.to(segment.final.device)


def _cell(
    recording: Recording, column: int, target: int | None, translated: Translators | None
) -> Floats:
    """The memo of one position. [4, layer + 1]"""
    segment, row = _place(recording, column)
    return _memo(segment, recording.layers, target, translated)[:, :, row]


def _memo(
    segment: Segment, layers: int, target: int | None, translated: Translators | None
) -> Floats:
    """What was read of a segment. `[4, layer + 1, row]`

    The numbers of a target make way for those of another, the top tokens do not depend on it; and
    those of one way to translate make way for another's.
    """
    kept, how, memo = segment.memo.get("logit lens", (None, None, None))
    if memo is None or how is not translated:
        kept, memo = target, np.full((4, layers + 1, len(segment)), np.nan, dtype=np.float32)
    elif target is not None and kept != target:
        kept, memo[2:] = target, np.nan
    segment.memo["logit lens"] = (kept, translated, memo)
    found: Floats = memo
    return found


def _place(recording: Recording, column: int) -> tuple[Segment, int]:
    for segment, count in recording.parts:
        if column < count:
            return segment, column
        column -= count
    raise IndexError(column)
