"""What a model with an adapter on predicts, held against the same model without it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.contrast import exact64
from llmscope.record.derive import logits, logits_after
from llmscope.record.recording import Recording
from llmscope.record.reduce import CHUNK

Floats = NDArray[np.float32]
KEY = "against the base"


@torch.no_grad()
def divergence(tuned: Recording, base: Recording, start: int = 0) -> Floats:
    """KL(tuned ‖ base) of the next-token prediction after each token, in nats. [row]

    Σ p (log p − log q) over the vocabulary, in float64. What was read is kept with the rows, which
    are only ever shared together with all that comes before them: a letter costs one row.

    Args:
        base: the same prompt on the model without the adapter.
        start: the first row that is wanted; NaN before it.
    """
    kept = [
        segment.memo.setdefault(KEY, np.full(len(segment), np.nan, dtype=np.float32))
        for segment, _ in tuned.parts
    ]
    values = np.concatenate([memo[:n] for memo, (_, n) in zip(kept, tuned.parts, strict=True)])
    values[:start] = np.nan
    lacking = start + np.flatnonzero(np.isnan(values[start:]))
    for first in range(int(lacking[0]) if len(lacking) else len(tuned), len(tuned), CHUNK):
        stop = min(first + CHUNK, len(tuned))
        p, q = (torch.log_softmax(exact64(_scores(one, first, stop)), -1) for one in (tuned, base))
        found = (p.exp() * (p - q)).sum(-1).clamp(min=0).float()
        values[first:stop] = found.cpu().numpy()
    at = 0
    for memo, (_, count) in zip(kept, tuned.parts, strict=True):
        known = ~np.isnan(values[at : at + count])
        memo[:count][known] = values[at : at + count][known]
        at += count
    return values


def _scores(recording: Recording, start: int, stop: int) -> Tensor:
    if stop == start + 1:
        return logits_after(recording, start)[None]
    return logits(recording, start, stop)


@torch.no_grad()
def both(tuned: Recording, base: Recording, position: int) -> NDArray[np.float64]:
    """Probabilities of all tokens after one. [tuned | base, token]"""
    scores = torch.stack([logits_after(one, position).float() for one in (tuned, base)])
    found: NDArray[np.float64] = torch.softmax(exact64(scores), -1).cpu().numpy()
    return found
