"""Prompts of like length through the model together, where that gives single runs' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.batch.job import PromptJob, figures_of, resolved
from llmscope.export.split import halves
from llmscope.figure import Figure
from llmscope.text import told

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope import Scope

LENSES = ("logit-lens", "next-token", "tokens")
"""Those that read the stream, and neither attention nor MLP."""
TOKENS = 2048
"""Tokens of a batch at most, with those that fill up."""
BOUND = 1e-5
"""How far numbers may be from those of single runs, unless somebody asks for less."""
PROBE = (12, 9, 5, 2)
"""Lengths of the prompts that are held against single runs."""


@dataclass(frozen=True)
class Together:
    """How many prompts at most go through the model in one pass."""

    size: int

    def batches(self, prompts: Mapping[int, Prompt]) -> Iterator[list[int]]:
        """Which prompts go together: those of like length, the longest first."""
        batch: list[int] = []
        for index in sorted(prompts, key=lambda one: (-len(prompts[one]), one)):
            longest = len(prompts[batch[0]]) if batch else 0
            if batch and (len(batch) == self.size or longest * (len(batch) + 1) > TOKENS):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def record(self, scope: Scope, prompts: Sequence[Prompt]) -> list[Recording]:
        """One recording a prompt."""
        from llmscope.record.capture.padded import record_padded

        return record_padded(scope.recorder, prompts)


def why_single(scope: Scope, looking: PromptJob, bound: float = BOUND) -> str:
    """Why prompts must go one by one; empty if they may go together, as a probe has shown.

    Args:
        bound: how far their numbers may be from those of single runs; see `difference`.
    """
    others = [name for name in looking.lenses if name not in LENSES]
    if others:
        return f"{', '.join(others)} needs more of a pass than batches keep"
    if looking.edits or looking.focus.versus_prompt is not None:
        return "there are edits, or a prompt B"
    from llmscope.record.capture.padded import record_padded
    from llmscope.record.derive.verify import probe

    scope.verdicts("readout")  # a model is examined before it is recorded
    whole = probe(scope.subject)
    lengths = [min(length, len(whole)) for length in PROBE]
    prompts = [
        replace(whole, ids=whole.ids[-n:], labels=whole.labels[:n], special=whole.special[:n])
        for n in lengths
    ]
    at_end = replace(looking, focus=replace(looking.focus, position=-1, span=None))
    try:
        for prompt, padded in zip(prompts, record_padded(scope.recorder, prompts), strict=True):
            single = scope.recorder.record(prompt, fresh=True)
            pair = (_figures(scope, padded, at_end), _figures(scope, single, at_end))
            for one, other in zip(*pair, strict=True):
                apart = difference(one, other, bound)
                if apart:
                    return f"{one.lens} would differ from single runs: {apart}"
    except Exception as error:  # whatever a model says that knows no batches
        return f"the model does not take them: {told(error)}"
    finally:
        scope.forget()
    return ""


def _figures(scope: Scope, recording: Recording, looking: PromptJob) -> list[Figure]:
    return figures_of(scope, recording, looking.lenses, resolved(scope, recording, looking.focus))


def difference(one: Figure, other: Figure, bound: float = BOUND) -> str:
    """What keeps two figures from being the same within a bound; empty if nothing does.

    Args:
        bound: of numbers; of those above 1, relative to the largest. Within `BOUND` ids and ranks
            are equal; whoever allows more has it that near ones change places.
    """
    (mine, _), (theirs, _) = halves(one, scalars=True), halves(other, scalars=True)
    if mine.keys() != theirs.keys():
        return "other arrays"
    for name in mine:
        found = _apart(np.asarray(mine[name]), np.asarray(theirs[name]), bound)
        if found:
            return f"{name} {found}"
    return ""


def _apart(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], bound: float) -> str:
    if a.shape != b.shape:
        return "of another shape"
    if a.dtype.kind != "f":
        return "" if bound > BOUND or np.array_equal(a, b) else "other ids or ranks"
    holes = np.isnan(a)
    if not np.array_equal(holes, np.isnan(b)):
        return "other holes"
    if holes.all():
        return ""
    far = float(np.abs(a[~holes].astype(np.float64) - b[~holes]).max())
    # Logits are as large as the model makes them: of those the bound is relative.
    return "" if far <= bound * max(1.0, float(np.nanmax(np.abs(b)))) else f"by {far:.1e}"
