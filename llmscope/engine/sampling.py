"""The token that is to follow the prompt on screen, and the branches that were written before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.engine.events import Request, Sample, Sampled
from llmscope.errors import ScopeError
from llmscope.sampler import draw

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.scope import Scope

BRANCHES = 4
"""So many branches are kept with their passes."""
BYTES = 256_000_000
"""So large are their keys and values together, at most."""


def sampled(scope: Scope, recording: Recording, request: Request, asked: Sample) -> Sampled:
    """The token that follows a recording, of the pass with its edits if there are any."""
    from llmscope.models.generation import processed
    from llmscope.record.derive.tensors import logits_after

    subject, last = recording.subject, len(recording) - 1
    if subject.tokens is None:
        return Sampled(request, error="this checkpoint has no tokenizer: no token has a text")
    context = subject.anatomy.context
    before = () if request.written is None else request.written.ids
    logits = logits_after(recording, last)
    try:
        if asked.rules:
            prompt = len(recording) - len(before)
            logits = processed(subject.model, recording.prompt.ids, prompt, logits)
        token = draw(
            logits, asked.sampler, place=len(recording), branch=asked.branch, tried=asked.tried
        )
    except ScopeError as error:
        return Sampled(request, error=error.message)
    return Sampled(
        request,
        token,
        subject.label(token),
        subject.tokens.describe((*before, token)).text,
        stops=token in stops(scope),
        full=context is not None and len(recording) >= context,
    )


def stops(scope: Scope) -> frozenset[int]:
    """The tokens at which transformers' `generate` stops; the tokenizer's own if it names none."""
    named = getattr(scope.model, "generation_config", None)
    found = getattr(named, "eos_token_id", None)
    if found is None:
        found = getattr(scope.tokenizer, "eos_token_id", None)
    if found is None:
        return frozenset()
    return frozenset((found,) if isinstance(found, int) else map(int, found))


class BranchRecordings:
    """The recordings of branches that were left, so that to come back to one takes no pass."""

    def __init__(self) -> None:
        self.kept: list[Recording] = []

    def put(self, left: Recording | None, entered: Recording) -> None:
        """Keep a recording that another takes the place of, unless that one goes on from it."""
        if left is None or left.past is None or _begins(left, entered):
            return
        others = [one for one in self.kept if not (_begins(one, left) or _begins(one, entered))]
        inside = any(_begins(left, one) for one in others)
        self.kept = others if inside else [*others, left]
        while len(self.kept) > BRANCHES or (self.kept and sum(map(_size, self.kept)) > BYTES):
            del self.kept[0]

    def heed(self, entered: Recording) -> None:
        """Keep none once a prompt is another one than those that they go on from."""
        if not any(_begins(entered, one) for one in self.kept):
            self.forget()

    def forget(self) -> None:
        """Keep none."""
        self.kept = []


def _begins(one: Recording, other: Recording) -> bool:
    """Whether one prompt is the beginning of the other, or the same, in the same model."""
    ids = one.prompt.ids
    return one.subject is other.subject and other.prompt.ids[: len(ids)] == ids


def _size(recording: Recording) -> int:
    """Bytes of the keys and values."""
    return sum(keys.nbytes + values.nbytes for keys, values in recording.past or ())
