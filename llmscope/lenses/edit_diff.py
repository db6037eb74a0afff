"""What edits changed in a figure: that of the edited pass less that of the unedited one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus

LISTED = ("neuron", "part", "dimension")
"""Axes that list the largest only, which may be others in another pass."""
ALL = 1 << 20


def same_question(edited: Figure, focus: Focus) -> Focus:
    """The focus that asks the unedited pass about what a figure of the edited one is about.

    Its top token is the target of both, its strongest neuron the one that both tell of, and all
    neurons, parts and dimensions are wanted, to find its own.
    """
    target, neuron = (edited.extra.get(name) for name in ("target_id", "neuron"))
    if focus.target is None and target is not None:
        focus = replace(focus, target=int(target))
    if focus.neuron is None and neuron is not None:
        focus = replace(focus, neuron=int(neuron))
    if any(axis.name in LISTED for axis in edited.axes):
        focus = replace(focus, top_k=ALL)
    return focus


def difference(edited: Figure, unedited: Figure) -> Figure:
    """Edited minus unedited, with the axes of the edited one. NaN where only one has a value.

    Refused where the two are about different things.
    """
    verdict = edited.verdict.worst(unedited.verdict)
    title = f"{edited.title} · change"
    if verdict.status == "refused":
        return Figure.refused(edited.lens, title, verdict.reason, verdict.discrepancy)
    if edited.lens == "next-token":
        before = edited.extra["unedited"]
    elif edited.lens == "logit-lens" and edited.extra.get("mode") == "top":
        reason = "other tokens may be on top: turn to the probability of the target"
        return Figure.refused(edited.lens, title, reason)
    else:
        aligned = _aligned(edited.axes, unedited)
        if aligned is None:
            return Figure.refused(edited.lens, title, "the two passes do not have the same axes")
        before = aligned
    extra = {**edited.extra, "change": True, "caption": ()}
    if edited.lens == "next-token":
        extra["probability"] = edited.values
    values = (edited.values - before).astype(np.float32)
    return replace(edited, title=title, values=values, verdict=verdict, extra=extra)


def _aligned(axes: tuple[Axis, ...], unedited: Figure) -> NDArray[np.float32] | None:
    """The unedited values at the labels of the axes."""
    values: NDArray[np.float32] = unedited.values
    if [axis.name for axis in axes] != [axis.name for axis in unedited.axes]:
        return None
    for dimension, (wanted, given) in enumerate(zip(axes, unedited.axes, strict=True)):
        if wanted == given:
            continue
        if wanted.name not in LISTED:
            return None
        places = {label: index for index, label in enumerate(given.labels)}
        values = at_labels(values, [places.get(label, -1) for label in wanted.labels], dimension)
    return values


def at_labels(values: NDArray[np.float32], found: list[int], dimension: int) -> NDArray[np.float32]:
    """The values at some indices of a dimension; NaN where an index is -1."""
    lacking = [index for index, place in enumerate(found) if place < 0]
    if not values.shape[dimension]:
        shape = list(values.shape)
        shape[dimension] = len(found)
        return np.full(shape, np.nan, dtype=np.float32)
    taken: NDArray[np.float32] = np.take(values, found, axis=dimension)
    taken[(slice(None),) * dimension + (lacking,)] = np.nan
    return taken
