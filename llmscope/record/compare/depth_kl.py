"""KL divergence between the logit lenses of a tuned model and its base, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.analysis.logit_lens import ROWS, stream_after
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.derive.kl import kl_of

Floats = NDArray[np.float32]
KEY = "logit lens against the base"


@dataclass(frozen=True, eq=False)
class Depths:
    """Values computed so far; NaN elsewhere. All `[layer + 1, row]`, the embedding first.

    Attributes:
        kl: KL(tuned ‖ base) of the two models' predictions after a layer, in nats.
        token: id of the token whose probability differs most.
        tuned, base: that token's probability in each model.
    """

    kl: Floats
    token: Floats
    tuned: Floats
    base: Floats


def read_depths(tuned: Recording, base: Recording, columns: Sequence[int]) -> None:
    """Compare the streams of these positions after every layer, except those already compared.

    Args:
        tuned: the prompt on the model with the adapter.
        base: the same prompt on the model without the adapter.
        columns: the positions.

    Raises:
        ValueError: a model has no unembedding that was found.
    """
    wanted = [
        (int(layer), column)
        for column in columns
        for layer in np.flatnonzero(np.isnan(_cells(tuned, column)[0]))
    ]
    for start in range(0, len(wanted), ROWS):
        _read(tuned, base, wanted[start : start + ROWS])


def depths(tuned: Recording) -> Depths:
    """Return all values computed so far."""
    parts = [_memo(segment, tuned.layers)[:, :, :count] for segment, count in tuned.parts]
    return Depths(*np.concatenate(parts, axis=2))


@torch.no_grad()
def _read(tuned: Recording, base: Recording, cells: Sequence[tuple[int, int]]) -> None:
    p, q = (_log_probabilities(one, cells) for one in (tuned, base))  # [cell, token]
    q = q.to(p.device)
    share, other = p.exp(), q.exp()
    most = (share - other).abs_().argmax(-1, keepdim=True)
    tuned_share, base_share = share.gather(1, most)[:, 0], other.gather(1, most)[:, 0]
    found = torch.stack([kl_of(p, q), most[:, 0].float(), tuned_share, base_share])
    for (layer, column), values in zip(cells, found.cpu().numpy().T, strict=True):
        _cells(tuned, column)[:, layer] = values


def _log_probabilities(recording: Recording, cells: Sequence[tuple[int, int]]) -> Tensor:
    readout = recording.subject.anatomy.require_readout()
    streams = torch.stack([stream_after(recording, layer, column) for layer, column in cells])
    return torch.log_softmax(readout(streams).float(), -1)


def _cells(recording: Recording, column: int) -> Floats:
    """Return the memo of one position. [4, layer + 1]"""
    segment, row = recording.segment_at(column)
    return _memo(segment, recording.layers)[:, :, row]


def _memo(segment: Segment, layers: int) -> Floats:
    """Return the memo of a segment. `[4, layer + 1, row]`"""
    if KEY not in segment.memo:
        segment.memo[KEY] = np.full((4, layers + 1, len(segment)), np.nan, dtype=np.float32)
    found: Floats = segment.memo[KEY]
    return found
