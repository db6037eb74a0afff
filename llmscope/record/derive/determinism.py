"""Checks that a model gives the same numbers twice: with dropout or a noisy hook it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from llmscope.errors import ScopeError
from llmscope.figure import VERIFIED, Verdict
from llmscope.record.capture.model_state import state_of
from llmscope.record.capture.random_state import random_states, seeded
from llmscope.record.capture.recorder import Recorder
from llmscope.record.capture.recording import Recording
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
    model = recorder.model
    state = state_of(model.module)
    if not state.unusual:
        return
    ids = probe(model).ids
    first, second = (recorder.run([ids]).logits[0] for _ in range(2))
    apart = discrepancy(first, second)
    if apart <= bound(model.precision, BOUND) or not bool(torch.isfinite(first).all()):
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
    """Check that the passes of a block do not depend on random numbers, if they draw any.

    Raises:
        ScopeError: two passes with different seeds differ, as in Reformer without a `hash_seed`.
    """
    model = recorder.model
    before = random_states(model.device)
    yield
    if before == random_states(model.device):
        return
    context = model.anatomy.context
    tokens = probe(model).ids * LONG
    apart = _apart_by_seed(recorder, tokens[: min(LONG, context or LONG)])
    if apart > bound(model.precision, BOUND):
        raise ScopeError(
            f"two passes over one prompt differ by {apart:.1e}: the model draws random numbers",
            "a seed in its config, if it has one, such as Reformer's hash_seed",
        )


class DrawnNumbers:
    """Whether what a model computes depends on random numbers, once one of its passes drew some.

    Args:
        recorder: runs the model's passes, which count those that drew random numbers.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._judged = recorder.taps.draws
        self._random = False
        self._harmless: set[int] = set()

    def verdict(self, recording: Recording) -> Verdict:
        """Return whether a recording can be had again: unverified where two seeds differ.

        Two more passes over its prompt run if a pass drew since the latest verdict, and for every
        recording once two of them differed.
        """
        taps, model = self._recorder.taps, self._recorder.model
        if not self._random and taps.draws == self._judged:
            return VERIFIED
        size = len(recording).bit_length()
        if size in self._harmless:
            self._judged = taps.draws
            return VERIFIED
        cached: Verdict | None = recording.memo.get(DRAWS)
        if cached is not None:
            return cached
        before = taps.draws
        apart = _apart_by_seed(self._recorder, recording.prompt.ids, last=1)
        drew = taps.draws > before
        self._judged, verdict = taps.draws, VERIFIED
        if apart > bound(model.precision, BOUND):
            self._random = True
            reason = f"{DREW}: two passes over it with other seeds differ by {apart:.1e}"
            verdict = Verdict("unverified", reason, apart)
        elif drew:  # as Reformer with a seed of its own does
            self._harmless.add(size)
        recording.memo[DRAWS] = verdict
        return verdict

    def uncompared(self, recording: Recording) -> Verdict:
        """Return unverified if a pass drew since the latest verdict, which nothing has compared."""
        drew = self._recorder.taps.draws > self._judged
        if not drew or len(recording).bit_length() in self._harmless:
            return VERIFIED
        return Verdict("unverified", f"{DREW}, and it was not compared with another one")


DRAWS = "random numbers"
"""The memo key of a recording's verdict."""
DREW = "a pass of the model drew random numbers"


def _apart_by_seed(recorder: Recorder, ids: tuple[int, ...], last: int | None = None) -> float:
    """Return how far the logits of two passes with different seeds are apart, as `discrepancy`.

    Args:
        recorder: runs the passes.
        ids: the prompt.
        last: how many last positions are compared; None: all.
    """
    logits: list[Tensor] = []
    for seed in (1, 2):
        with seeded(recorder.model.device, seed):
            logits.append(recorder.run([ids], last=last).logits[0, -(last or 0) :])
    return discrepancy(logits[0], logits[1])
