"""Checks that a model gives the same numbers twice: with dropout or a noisy hook it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.recorder import Recorder
from llmscope.record.derive.comparison import BOUND
from llmscope.record.derive.verify import discrepancy, probe
from llmscope.record.norms import bound

LONG = 160
"""Tokens of a prompt that is long enough to be cut into chunks, as Reformer's attention does."""


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


@contextmanager
def checked_draws(recorder: Recorder) -> Iterator[None]:
    """Check that the passes of a block do not depend on torch's random numbers, if they draw any.

    Raises:
        ScopeError: two passes with different seeds differ, as in Reformer without a `hash_seed`.
    """
    before = _random_state(recorder)
    yield
    if torch.equal(before, _random_state(recorder)):
        return
    subject = recorder.subject
    context = subject.anatomy.context
    tokens = probe(subject).ids * LONG
    first, second = (
        _seeded(recorder, tokens[: min(LONG, context or LONG)], seed) for seed in (1, 2)
    )
    apart = discrepancy(first, second)
    if apart > bound(subject.dtype, BOUND):
        raise ScopeError(
            f"two passes over one prompt differ by {apart:.1e}: the model draws random numbers",
            "a seed in its config, if it has one, such as Reformer's hash_seed",
        )


def _random_state(recorder: Recorder) -> Tensor:
    """Return the state of the random numbers of the processor and of the model's device."""
    device = recorder.subject.device
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def _seeded(recorder: Recorder, ids: tuple[int, ...], seed: int) -> Tensor:
    """Return the logits of a pass after `torch.manual_seed(seed)`. [row, token]"""
    device = recorder.subject.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        logits: Tensor = recorder.run([ids]).logits[0]
    return logits
