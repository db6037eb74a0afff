"""Statistics of predictions, from logits: surprisal and rank of the next token, and entropy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.record.fetch import Fetching, on_cpu

FEW = 8
"""Number of rows reduced at once on a CPU: few enough to stay in its cache from step to step."""

Floats = NDArray[np.float32]
BIT = float(np.log(2))


@torch.no_grad()
def predictions(
    scores: Tensor, following: tuple[int, ...]
) -> Fetching[tuple[Floats, Floats, Floats]]:
    """Return surprisal in bits, rank from 1 of the following tokens, and entropy in bits.

    Each is [row]; NaN where logits are NaN or +∞. The token after the last row may be unknown.

    Args:
        scores: logits. [row, token]
        following: the token after each row, or after each except the last.
    """
    few = FEW if scores.device.type == "cpu" else len(scores)
    # New temporaries would be returned to the system each time, and most of the time would go into
    # getting their pages again.
    share, below = scores.new_empty((2, min(few, len(scores)), scores.shape[1]))
    ids = torch.tensor(following, device=scores.device, dtype=torch.long)[:, None]
    pieces: list[tuple[Tensor, ...]] = []
    for first in range(0, len(scores), few):
        part = scores[first : first + few]
        pieces.append(_reduce_rows(part, ids[first : first + few], share, below))
    surprisal, rank, entropy = (torch.cat(column) for column in zip(*pieces, strict=True))
    stats = yield from on_cpu(surprisal / BIT, rank, entropy / BIT)
    surprisal, rank, entropy = stats
    return float_array(surprisal), float_array(rank), float_array(entropy)


@torch.no_grad()
def rank_range(scores: Tensor, following: tuple[int, ...], bound: float) -> tuple[Floats, Floats]:
    """Return the lowest and the highest rank of the following tokens up to rounding. [row]

    If no logit of a row is off by more than ε, a token's rank is at least 1 + the number of tokens
    more than 2ε above it, and at most the number of those no more than 2ε below it, itself among
    them: only tokens that tie up to rounding may change places.

    Args:
        scores: logits. [row, token]
        following: the token after each row.
        bound: ε, relative to the largest logit of the row if that is above 1.
    """
    apart = 2 * bound * scores.abs().amax(-1, keepdim=True).clamp(min=1)
    following_scores = scores.gather(1, torch.tensor(following, device=scores.device)[:, None])
    lowest, highest = (
        1 + (scores > following_scores + apart).sum(-1),
        (scores >= following_scores - apart).sum(-1),
    )
    return float_array(lowest), float_array(highest)


def _reduce_rows(scores: Tensor, ids: Tensor, share: Tensor, below: Tensor) -> tuple[Tensor, ...]:
    """Return the same for a few rows, in nats. `share` and `below` are scratch. [row, token]

    With m the largest logit, log p(x) = (x - m) - log Σ exp(x - m); and p(m) = 1 / Σ exp(x - m).
    """
    share, below = share[: len(scores)], below[: len(scores)]
    torch.softmax(scores, -1, out=share)
    largest = scores.amax(-1, keepdim=True)
    total = -share.amax(-1).log()  # log Σ exp(x - m)
    torch.sub(scores, largest, out=below)
    below.clamp_(min=torch.finfo(below.dtype).min)  # 0 · -∞ would be NaN; it must add 0 here
    entropy = total - torch.linalg.vecdot(share, below)
    count = len(ids)
    chosen = scores[:count].gather(1, ids)  # [row, 1]
    surprisal = total[:count] + (largest[:count] - chosen)[:, 0]
    rank = _greater(scores[:count], chosen).float() + 1
    rank[surprisal.isnan()] = torch.nan  # no logit compares greater than NaN, which would be rank 1
    return surprisal, rank, entropy


def _greater(scores: Tensor, chosen: Tensor) -> Tensor:
    """Count a row's logits greater than the chosen one. `[row, token]`, `[row, 1]` -> [row]

    On a CPU numpy does it in a fifth of the time.
    """
    if scores.device.type != "cpu":
        return (scores > chosen).sum(-1)
    pairs = zip(scores.numpy(), chosen.numpy(), strict=True)
    return torch.tensor([np.count_nonzero(row > value) for row, value in pairs])


def float_array(tensor: Tensor) -> Floats:
    """Return a tensor as an array of float32."""
    array: Floats = tensor.float().cpu().numpy()
    return array
