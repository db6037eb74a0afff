"""Predictions of a model with an adapter enabled, compared with the same model without it."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.capture.recording import Recording
from llmscope.record.derive.kl import exact64, kl_divergence
from llmscope.record.derive.row_stats import CHUNK, row_stats
from llmscope.record.derive.tensors import logits, logits_after

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
KEY = "against the base"


@torch.no_grad()
def divergence(tuned: Recording, base: Recording, rows: Mask | None = None) -> Floats:
    """Return KL(tuned ‖ base) of the next-token prediction after each token, in nats. [row]

    Σ p (log p − log q) over the vocabulary, in float64. Values are memoized with the rows, which
    are shared between recordings only together with all earlier rows, so typing a character
    computes one row.

    Args:
        tuned: the prompt on the model with the adapter.
        base: the same prompt on the model without the adapter.
        rows: mask of the rows to compute, NaN elsewhere; None: all. [row]
    """
    kept = [
        segment.memo.setdefault(KEY, np.full(len(segment), np.nan, dtype=np.float32))
        for segment, _ in tuned.parts
    ]
    values = np.concatenate([memo[:n] for memo, (_, n) in zip(kept, tuned.parts, strict=True)])
    wanted = np.ones(len(tuned), dtype=bool) if rows is None else rows
    lacking = np.flatnonzero(np.isnan(values) & wanted).tolist()
    end = lacking[-1] + 1 if lacking else 0
    for first in range(lacking[0] if lacking else 0, end, CHUNK):
        stop = min(first + CHUNK, end)
        found = kl_divergence(*(_scores(one, first, stop) for one in (tuned, base)))
        values[first:stop] = found.float().cpu().numpy()
    at = 0
    for memo, (_, count) in zip(kept, tuned.parts, strict=True):
        known = ~np.isnan(values[at : at + count])
        memo[:count][known] = values[at : at + count][known]
        at += count
    values[~wanted] = np.nan
    return values


def _scores(recording: Recording, start: int, stop: int) -> Tensor:
    if stop == start + 1:
        return logits_after(recording, start)[None]
    return logits(recording, start, stop)


def log_ratios(tuned: Recording, base: Recording) -> Floats:
    """Return log(π(token) / π_ref(token)) of each token given the tokens before it, in nats. [row]

    NaN for the first token, which is not predicted. DPO's implicit reward is β times the sum over
    an answer (Rafailov et al. 2023). Computed from both surprisals, which are read once per row.
    """
    ours, theirs = (deque(row_stats(one), maxlen=1)[0].surprisal for one in (tuned, base))
    found: Floats = ((theirs - ours) * np.log(2)).astype(np.float32)
    return found


@torch.no_grad()
def both(tuned: Recording, base: Recording, position: int) -> NDArray[np.float64]:
    """Return next-token probabilities after a position. [tuned | base, token]"""
    scores = torch.stack([logits_after(one, position).float() for one in (tuned, base)])
    found: NDArray[np.float64] = torch.softmax(exact64(scores), -1).cpu().numpy()
    return found
