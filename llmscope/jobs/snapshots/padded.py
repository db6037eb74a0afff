"""Padded batching: run prompts of similar length in one pass, if that gives the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.export.split import halves
from llmscope.figure import Figure
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.lenses import lens
from llmscope.scope.figures import resolve_focus
from llmscope.support.text import error_line

if TYPE_CHECKING:
    from llmscope.lenses.base import RankRange
    from llmscope.record.capture.recording import Prompt, Recording
    from llmscope.scope.scope import Scope

BOUND = 1e-5
"""Default for how far numbers may differ from those of single runs."""
PROBE = (12, 9, 5, 2)
"""Lengths of the probe prompts, whose padded runs are compared with single runs."""


@dataclass(frozen=True)
class Together:
    """Padded batching with at most `size` prompts in one pass.

    Attributes:
        size: the most prompts of a pass.
        whole: keep attention and MLP tensors too; else the streams and the last logits alone.
    """

    size: int
    whole: bool = False

    def batches(self, prompts: Mapping[int, Prompt]) -> list[list[int]]:
        """Return the indices of the prompts of each pass: those of similar length."""
        from llmscope.record.capture.padded import balanced, grouped

        indices = sorted(prompts)
        groups = list(grouped([len(prompts[index]) for index in indices], self.size))
        return [[indices[at] for at in group] for group in balanced(groups)]

    def record(self, scope: Scope, prompts: Sequence[Prompt]) -> list[Recording]:
        """Return one recording per prompt, all from one padded pass."""
        from llmscope.record.capture.padded import record_padded

        with scope.unchanged():
            return record_padded(scope.recorder, prompts, whole=self.whole)

    @classmethod
    def of(cls, size: int, lenses: Sequence[str]) -> Together:
        """Return batching that keeps what these lenses read."""
        return cls(size, whole=any(lens(name).passes != "streams" for name in lenses))


def why_single(scope: Scope, looking: PromptJob, bound: float = BOUND) -> str:
    """Return why prompts must run one by one; empty if a probe shows that batching is safe.

    Args:
        scope: the model.
        looking: the lenses and options for each prompt.
        bound: how far numbers may differ from those of single runs; see `difference`.
    """
    others = [name for name in looking.lenses if lens(name).passes == "own"]
    if others:
        return f"{', '.join(others)} runs passes of its own for each"
    whole_pass = Together.of(1, looking.lenses).whole
    if looking.edits or looking.focus.versus_prompt is not None:
        return "there are edits, or a prompt B"
    from llmscope.record.capture.padded import record_padded
    from llmscope.record.derive.verify import probe

    scope.verdicts("readout")  # run the model's checks before recording
    outside = scope.recorder.outside
    if outside:
        return f"{outside} may depend on the other prompts of a batch"
    attends = any(layer.kind == "attention" for layer in scope.loaded_model.anatomy.layers)
    if attends and not scope.recorder.reuses:  # the probe is too short to show all that it needs
        return "its tokens depend on more than keys and values of earlier ones"
    whole = probe(scope.loaded_model)
    lengths = [min(length, len(whole)) for length in PROBE]
    prompts = [
        replace(whole, ids=whole.ids[-n:], labels=whole.labels[:n], special=whole.special[:n])
        for n in lengths
    ]
    at_end = replace(looking, focus=replace(looking.focus, position=-1, span=None))
    try:
        with scope.unchanged():
            pairs = [
                (padded, scope.recorder.record(prompt, fresh=True))
                for prompt, padded in zip(
                    prompts,
                    record_padded(scope.recorder, prompts, whole=whole_pass),
                    strict=True,
                )
            ]
        for both in pairs:
            pair = tuple(_figures(scope, recording, at_end) for recording in both)
            focus = resolve_focus(scope, both[1], at_end.focus)
            for figure, other in zip(*pair, strict=True):
                ties = {
                    name: partial(tied, other, both[1], focus, BOUND)
                    for name, tied in lens(other.lens).ranks.items()
                }
                apart = difference(figure, other, bound, ties, lens(other.lens).residues)
                if apart:
                    return f"{figure.lens} would differ from single runs: {apart}"
    except Exception as error:  # models without batch support raise anything
        return f"the model does not take them: {error_line(error)}"
    finally:
        scope.forget()
    return ""


def _figures(scope: Scope, recording: Recording, looking: PromptJob) -> tuple[Figure, ...]:
    return looking.figures(scope, recording, resolve_focus(scope, recording, looking.focus))


def difference(
    figure: Figure,
    other: Figure,
    bound: float = BOUND,
    ties: Mapping[str, Callable[[], RankRange]] | None = None,
    residues: Mapping[str, str] | None = None,
) -> str:
    """Return how two figures differ beyond a bound; empty if they do not.

    Args:
        figure: a figure.
        other: the figure to compare it with.
        bound: maximum difference of numbers, relative to the largest one if that is above 1. Up to
            `BOUND`, ids and ranks must be equal; with a larger bound they are not compared, since
            tokens with close scores may change places.
        ties: for each array of ranks, a function that returns the ranks that ties allow; it is
            called if they differ. The ranks of other arrays must be equal.
        residues: for each number that rounding leaves of a larger one, the name of that one; its
            size counts in place of the residue's.
    """
    (mine, _), (theirs, _) = halves(figure, scalars=True), halves(other, scalars=True)
    if mine.keys() != theirs.keys():
        return "other arrays"
    for name in mine:
        a, b = np.asarray(mine[name]), np.asarray(theirs[name])
        tied = (ties or {}).get(name)
        if tied is not None and a.shape == b.shape and not np.array_equal(a, b, equal_nan=True):
            low, high = tied()
            b = np.where((low <= a) & (a <= high), a, b)
        whole = (residues or {}).get(name)
        size = np.nanmax(np.abs(theirs[name if whole is None else whole]), initial=1.0)
        difference_here = _apart(a, b, bound, float(size))
        if difference_here:
            return f"{name} {difference_here}"
    return ""


def _apart(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], bound: float, size: float) -> str:
    """Say how an array differs from another. `size`: of the number that the bound is a share of."""
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
    # The scale of logits depends on the model, so the bound is relative for large numbers.
    return "" if far <= bound * size else f"by {far:.1e}"
