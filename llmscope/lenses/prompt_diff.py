"""A − B: a figure of this prompt minus that of prompt B, or of this model minus that of model B."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens
from llmscope.lenses.contrast.captions import in_lines, only_in, unseen
from llmscope.lenses.edit_diff import TOKENS, align_values, same_question

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.compare.pair import Pair

NAME = "A − B"
"""The name of the difference in titles."""
Figures = Callable[["Recording", Focus], Iterable[Figure]]


def prompt_difference(chosen: Lens, pair: Pair, focus: Focus, figures: Figures) -> Figure:
    """Return A minus B, with the axes of A. NaN at tokens of A alone, and where B has no value.

    B uses the counterpart of the focus position, the same target and the same neuron. Values that
    only depend on the common first tokens are exactly 0, as attention is causal. For `next-token`
    the values are those of A's candidates; `extra` holds their probability in A and, as `other`,
    in B, other_target_rank, other_target_probability, and kl: KL(B ‖ A) in nats.

    Refused for figures that are the same for all prompts, that compare A and B already, or that
    are of a token that B does not have.

    Args:
        chosen: the lens.
        pair: recordings of A and B, with their aligned tokens.
        focus: the selection in A.
        figures: yields ever more complete figures of the lens for a recording.

    Raises:
        Unpaired: B does not have the token.
    """
    reason = chosen.unpaired.get(focus.mode) or chosen.unpaired.get("")
    if reason:
        return Figure.refused(chosen.name, f"{chosen.name} · {NAME}", reason)
    return _difference(chosen, pair, focus, figures)


def _difference(chosen: Lens, pair: Pair, focus: Focus, figures: Figures) -> Figure:
    *_, ours = figures(pair.a, focus)
    title = f"{ours.title} · {NAME}"
    if ours.verdict.status == "refused":
        return replace(ours, title=title)
    places = [axis for axis in ours.axes if axis.name in TOKENS]
    if any(axis.step > 1 for axis in places):
        return Figure.refused(ours.lens, title, "a block of tokens has no counterpart in B")
    their_focus = _focus_in_b(chosen, pair, focus, ours, places)
    if ours.lens == "next-token":
        return _candidates(pair, ours, focus, title)
    if pair.identical:
        theirs = ours
    else:
        *_, theirs = figures(pair.b, their_focus)
    verdict = ours.verdict.worst(theirs.verdict)
    if verdict.status == "refused":
        return Figure.refused(ours.lens, title, verdict.reason, verdict.discrepancy)
    there = align_values(ours.axes, theirs, dict(pair.aligned))
    if there is None:
        return Figure.refused(ours.lens, title, "A and B do not have the same axes here")
    values = (ours.values - there).astype(np.float32)
    values[_alike(chosen, pair, focus, ours.axes) & np.isfinite(ours.values)] = 0.0
    caption = in_lines(*unseen(pair, focus.position), *(only_in(pair, "A") if places else ()))
    extra = {**ours.extra, "change": True, "caption": caption}
    return replace(ours, title=title, values=values, verdict=verdict, extra=extra)


def model_difference(
    chosen: Lens, recording: Recording, other: Recording, focus: Focus, figures: Figures
) -> Figure:
    """Return a figure of model A minus the same of model B, for one prompt.

    As `prompt_difference`, with every token aligned with itself.

    Args:
        chosen: the lens.
        recording: the prompt on A.
        other: the prompt on B.
        focus: the selection.
        figures: yields ever more complete figures of the lens for a recording.
    """
    from llmscope.record.compare.pair import Pair

    reason = chosen.unpaired.get("", "")
    if focus.mode in chosen.unpaired and focus.mode not in chosen.of_model:
        reason = chosen.unpaired[focus.mode]
    if reason:
        return Figure.refused(chosen.name, f"{chosen.name} · {NAME}", reason)
    return _difference(chosen, Pair(recording, other), focus, figures)


def _focus_in_b(
    chosen: Lens, pair: Pair, focus: Focus, figure: Figure, places: list[Axis]
) -> Focus:
    """Return the focus that gives the counterpart of a figure in B.

    Raises:
        Unpaired: B does not have the token that the figure is about.
    """
    from llmscope.record.compare.pair import Unpaired

    their_focus, there = same_question(figure, focus), pair.there(focus.position)
    if there is None and "position" in chosen.uses and not (places and chosen.history):
        pair.counterpart(focus.position)  # raises, as B does not have the token
    # If tokens are an axis, the focus position only decides which items are listed.
    their_focus = replace(their_focus, position=0 if there is None else there)
    if places and "span" in chosen.uses and focus.span is not None:
        inside = range(places[0].start, places[0].stop)
        rows_of_b = [b for a, b in pair.aligned if a in inside]
        if not rows_of_b:
            raise Unpaired("prompt B has none of the tokens that are in sight")
        their_focus = replace(their_focus, span=(rows_of_b[0], rows_of_b[-1] + 1))
    return their_focus


def _alike(
    chosen: Lens, pair: Pair, focus: Focus, axes: tuple[Axis, ...]
) -> NDArray[np.bool_] | bool:
    """Return which values depend only on the common first tokens of both prompts."""
    rows = next((n for n, axis in enumerate(axes) if axis.name in ("position", "query")), None)
    if rows is None or not chosen.history:
        return "position" in chosen.uses and focus.position < pair.same
    shape = [1] * len(axes)
    shape[rows] = len(axes[rows])
    before = np.arange(axes[rows].start, axes[rows].stop) < pair.same
    return np.broadcast_to(before.reshape(shape), tuple(map(len, axes)))


def _candidates(pair: Pair, figure: Figure, focus: Focus, title: str) -> Figure:
    """Return the `next-token` figure of A's candidates minus their probabilities in B."""
    from llmscope.lenses.next_token import other_predictions
    from llmscope.record.compare.same_tokens import shared_logits
    from llmscope.record.derive.tensors import logits_after

    at, name = focus.position, "other"
    there, alike = pair.counterpart(at), at < pair.same
    logits = [
        logits_after(recording, place) for recording, place in ((pair.a, at), (pair.b, there))
    ]
    ours, theirs = shared_logits(logits[0], logits[0 if alike else 1])
    extra = other_predictions(ours, theirs, focus, figure.extra["ids"], figure, name)
    values = (figure.values - extra[name]).astype(np.float32)
    extra_of_change = {
        "change": True,
        "probability": figure.values,
        "caption": in_lines(*unseen(pair, at)),
    }
    extra = {**figure.extra, **extra, **extra_of_change}
    return replace(figure, title=title, values=values, extra=extra)
