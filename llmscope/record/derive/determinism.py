"""Checks that a model gives the same numbers twice: with dropout or a noisy hook it does not."""

from __future__ import annotations

import torch

from llmscope.errors import ScopeError
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recorder import Recorder
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.verify import discrepancy, probe
from llmscope.record.norms import bound


def check_steady(recorder: Recorder) -> None:
    """Run the probe twice if a module is in training mode, or has hooks that are not ours.

    Raises:
        ScopeError: the two passes differ, so that the numbers of neither are the model's.
    """
    subject = recorder.subject
    state = state_of(subject.model)
    if not state.unusual:
        return
    ids = probe(subject).ids
    first, second = (recorder.run([ids]).logits[0] for _ in range(2))
    apart = discrepancy(first, second)
    if apart <= bound(subject.dtype, BOUND) or not bool(torch.isfinite(first).all()):
        return  # numbers that are not finite are reported elsewhere
    if state.training:
        raise ScopeError(
            f"the model is in training mode, and two passes over one prompt differ by {apart:.1e}",
            "call model.eval() first",
        )
    raise ScopeError(
        f"two passes over one prompt differ by {apart:.1e}: a hook or forward of the model's is "
        "random",
        "the model without it",
    )
