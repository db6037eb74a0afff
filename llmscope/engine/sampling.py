"""Sampling of the next token, and the recordings of branches generated before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.engine.events import Request, Sample, Sampled
from llmscope.errors import ScopeError
from llmscope.models.sampler import draw

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope.scope import Scope

BRANCHES = 4
"""Maximum number of branches whose recordings are kept."""
BYTES = 256_000_000
"""Maximum size of their keys and values together, in bytes."""


def sampled(scope: Scope, recording: Recording, request: Request, sample: Sample) -> Sampled:
    """Sample the token that follows a recording; edits of its pass are in effect."""
    from llmscope.models.generation import processed
    from llmscope.record.derive.tensors import logits_after

    model, last = recording.model, len(recording) - 1
    if model.tokens is None:
        return Sampled(request, error="this checkpoint has no tokenizer: no token has a text")
    context = model.anatomy.context
    before = () if request.written is None else request.written.ids
    logits = logits_after(recording, last)
    try:
        if sample.rules:
            prompt = len(recording) - len(before)
            logits = processed(model.module, recording.prompt.ids, prompt, logits)
        token = draw(
            logits, sample.sampler, place=len(recording), branch=sample.branch, tried=sample.tried
        )
    except ScopeError as error:
        return Sampled(request, error=error.message)
    return Sampled(
        request,
        token,
        model.label(token),
        model.tokens.describe((*before, token)).text,
        stops=token in stops(scope),
        full=context is not None and len(recording) >= context,
    )


def stops(scope: Scope) -> frozenset[int]:
    """Return the stop tokens of the generation_config; if it has none, the tokenizer's EOS.

    These are the tokens at which transformers' `generate` stops.
    """
    named = getattr(scope.model, "generation_config", None)
    end = getattr(named, "eos_token_id", None)
    if end is None:
        end = getattr(scope.tokenizer, "eos_token_id", None)
    if end is None:
        return frozenset()
    return frozenset((end,) if isinstance(end, int) else map(int, end))


class BranchRecordings:
    """The recordings of branches that were left, so that returning to one needs no pass."""

    def __init__(self) -> None:
        self.kept: list[Recording] = []

    def put(self, left: Recording | None, entered: Recording) -> None:
        """Keep the recording that was left, unless the one entered is a continuation of it."""
        if left is None or left.past is None or _begins(left, entered):
            return
        others = [
            other for other in self.kept if not (_begins(other, left) or _begins(other, entered))
        ]
        inside = any(_begins(left, other) for other in others)
        self.kept = others if inside else [*others, left]
        while len(self.kept) > BRANCHES or (self.kept and sum(map(_size, self.kept)) > BYTES):
            del self.kept[0]

    def heed(self, entered: Recording) -> None:
        """Drop all recordings unless one of them is a continuation of the entered prompt."""
        if not any(_begins(entered, branch) for branch in self.kept):
            self.forget()

    def forget(self) -> None:
        """Drop all recordings."""
        self.kept = []


def _begins(recording: Recording, other: Recording) -> bool:
    """Return whether one prompt is a prefix of the other, or equal to it, in the same model."""
    ids = recording.prompt.ids
    return recording.model is other.model and other.prompt.ids[: len(ids)] == ids


def _size(recording: Recording) -> int:
    """Return the size of the keys and values in bytes."""
    return sum(keys.nbytes + values.nbytes for keys, values in recording.past or ())
