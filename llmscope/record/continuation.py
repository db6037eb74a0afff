"""Whether a model can go on from keys and values that an earlier pass left: found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from llmscope.record.taps import Cancelled

if TYPE_CHECKING:
    from llmscope.record.recorder import Recorder

BOUND = 1e-3
HALF_BOUND = 0.25
"""Of the largest logit. Rounding stays far below it; a cache that is not understood does not."""


def can_continue(recorder: Recorder, ids: tuple[int, ...]) -> bool:
    """Whether the logits after some tokens are the same in one pass and in two passes.

    Some models want a cache of their own (indexers, linear attention), and say so with any kind of
    error; some take no more than one token on top of a cache; some go on from it wrongly.

    Args:
        ids: a few tokens, two at least.

    Raises:
        Cancelled: nothing was found out.
    """
    half = len(ids) // 2
    if not half:
        return False
    cache = DynamicCache()
    try:
        recorder.run([ids[:half]], last=1, cache=cache)
        again = recorder.run([ids[half:]], last=1, cache=cache).logits[0, -1].float()
        whole = recorder.run([ids], last=1).logits[0, -1].float()
    except Cancelled:
        raise
    except Exception:  # whatever a model says of a cache that is not its own
        return False
    error = float((again - whole).abs().max())
    bound = HALF_BOUND if recorder.subject.dtype in (torch.float16, torch.bfloat16) else BOUND
    return error <= bound * float(whole.abs().max())  # False for NaN
