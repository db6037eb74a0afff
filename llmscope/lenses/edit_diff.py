"""The change of a figure by edits: that of the edited pass minus that of the unedited one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus

LISTED = ("neuron", "part", "dimension")
"""Axes that list only the largest items, which may differ between passes."""
TOKENS = ("position", "query", "key")
"""Axes along the tokens of a prompt."""
ALL = 1 << 20


def same_question(edited: Figure, focus: Focus) -> Focus:
    """Return the focus with which the unedited pass gives the counterpart of an edited figure.

    Both use the target and the neuron of the edited figure. All neurons, parts and dimensions are
    requested, so that those of the edited figure are among them.
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
    """Return edited minus unedited, with the axes of `edited`. NaN where only one has a value.

    Refused if the two figures are not comparable.
    """
    verdict = edited.verdict.worst(unedited.verdict)
    title = f"{edited.title} · change"
    if verdict.status == "refused":
        return Figure.refused(edited.lens, title, verdict.reason, verdict.discrepancy)
    if edited.lens == "next-token":
        before = edited.extra["unedited"]
    elif edited.lens == "logit-lens" and edited.extra.get("mode") != "target":
        reason = "other tokens may be on top: turn to the probability of the target"
        return Figure.refused(edited.lens, title, reason)
    else:
        before = align_values(edited.axes, unedited)
        if before is None:
            return Figure.refused(edited.lens, title, "the two passes do not have the same axes")
    extra = {**edited.extra, "change": True, "caption": ()}
    if edited.lens == "next-token":
        extra["probability"] = edited.values
    values = (edited.values - before).astype(np.float32)
    return replace(edited, title=title, values=values, verdict=verdict, extra=extra)


def align_values(
    axes: tuple[Axis, ...], other: Figure, places: Mapping[int, int] | None = None
) -> NDArray[np.float32] | None:
    """Return the values of another figure at the labels of the axes; None if the axes differ.

    Args:
        axes: the wanted axes.
        other: the figure.
        places: the position in the other prompt of each token that it has; None: it is the same
            prompt.
    """
    values: NDArray[np.float32] = other.values
    if [axis.name for axis in axes] != [axis.name for axis in other.axes]:
        return None
    for dimension, (wanted, ours) in enumerate(zip(axes, other.axes, strict=True)):
        if places is not None and wanted.name in TOKENS:
            there = (places.get(place) for place in range(wanted.start, wanted.stop))
            at = [None if place is None else ours.index(place) for place in there]
        elif wanted == ours:
            continue
        elif wanted.name in LISTED:
            known = {label: index for index, label in enumerate(ours.labels)}
            at = [known.get(label) for label in wanted.labels]
        else:
            return None
        values = at_labels(values, [-1 if index is None else index for index in at], dimension)
    return values


def at_labels(
    values: NDArray[np.float32], indices: list[int], dimension: int
) -> NDArray[np.float32]:
    """Return the values at the indices `found` of a dimension; NaN where an index is -1."""
    lacking = [index for index, place in enumerate(indices) if place < 0]
    if not values.shape[dimension]:
        shape = list(values.shape)
        shape[dimension] = len(indices)
        return np.full(shape, np.nan, dtype=np.float32)
    aligned_values: NDArray[np.float32] = np.take(values, indices, axis=dimension)
    aligned_values[(slice(None),) * dimension + (lacking,)] = np.nan
    return aligned_values
