"""The gain from examples: the surprisal of an answer after growing prefixes of a context."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def surprisals(run: Callable[..., Any], ids: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Return −log₂ p of each token of an answer, given `ids` and the answer's earlier tokens.

    Their sum is −log₂ p of the whole answer.

    Args:
        run: runs extra forward passes (`Passes`).
        ids: token ids before the answer.
        answer: token ids, at least one.

    Returns:
        Bits. [token], float64
    """
    output = run([[*ids, *answer[:-1]]], last=len(answer))
    logits = output.logits[0, -len(answer) :].cpu().double()  # [token, vocabulary]
    spoken = torch.log_softmax(logits, -1).gather(-1, torch.tensor(answer)[:, None])
    return -spoken[:, 0] / math.log(2)
