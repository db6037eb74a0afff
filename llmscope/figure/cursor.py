"""Where a focus is on the axes of a figure, and the value there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmscope.figure.figure import LAYER_HEAD, TRAINING_STEP, Axis, Figure, Focus

if TYPE_CHECKING:
    import numpy as np

LISTED = ("token", "neuron", "feature")
"""Axes of a list, of which the focus may have chosen an entry; otherwise it is at the first."""
TEXTS = ("sentence", "passage", "fork", "branch")
"""Axes of parts of the prompt."""
FIXED = {"model": 0, "examples": -1, "statistic": -1}
"""The entry of an axis that stands for all: the first model, all examples, the norm of a step."""


def layer_row(labels: Sequence[str], layer: int) -> int | None:
    """Return the row labelled with the layer's number, or None; negative layers from the end."""
    numbered = [label for label in labels if label.isdecimal()]
    if layer < 0:
        layer += len(numbered)
    return next((row for row, label in enumerate(labels) if label == str(layer)), None)


def focused_index(axis: Axis, focus: Focus) -> int | None:
    """Return the index on an axis that the focus points at, or None if the focus has none."""
    count = len(axis)
    if axis.name == "layer":
        return layer_row(axis.labels, focus.layer)
    if axis.name in ("position", "query"):
        return axis.index(focus.position)
    if axis.name == LAYER_HEAD:
        named = f"{focus.layer}.{focus.head}"
        return axis.labels.index(named) if named in axis.labels else None
    places = {
        TRAINING_STEP: focus.step,
        "head": focus.head,
        "neuron": focus.neuron,
    }
    index = places.get(axis.name)
    return index % count if index is not None and -count <= index < count else None


def reduce_to_focus(figure: Figure, dimensions: int, focus: Focus) -> Figure:
    """Index the leading axes at the focus until at most `dimensions` axes remain."""
    while len(figure.axes) > dimensions:
        index = focused_index(figure.axes[0], focus) or 0
        figure = replace(figure, axes=figure.axes[1:], values=figure.values[index])
    return figure


def value_at(figure: Figure, focus: Focus) -> np.float32 | None:
    """Return the value at the focus; None if the figure has none there, or it is missing.

    Along an axis on which a focus has no place, that is the value of largest magnitude if it is the
    last axis, and the first otherwise.
    """
    values: Any = figure.values
    if not values.size:
        return None
    if "seen" in figure.extra:  # the numbers of a step of the walkthrough
        values = values[tuple(figure.extra["seen"])]
        return values if values == values else None
    for number, axis in enumerate(figure.axes):
        if axis.name in ("layer", "position", "query", LAYER_HEAD):
            index = focused_index(axis, focus)
            if index is None:
                return None
        elif axis.name == "head":
            index = focus.head
        elif axis.name == "step":
            index = min(focus.step or 0, len(axis) - 1)
        elif axis.name in LISTED:
            index = _listed_row(figure, axis, focus)
        elif axis.name in TEXTS:
            index = _row_of_text(figure, focus)
        elif axis.name in FIXED:
            index = FIXED[axis.name]
        elif number == len(figure.axes) - 1:
            known = values[values == values]  # NaN is not itself
            return known[abs(known).argmax()] if known.size else None
        else:
            index = 0
        values = values[index]
    return values if values == values else None


def _row_of_text(figure: Figure, focus: Focus) -> int:
    """Return the row of the first part of the prompt that ends at the token of a focus or later."""
    ends = [stop - 1 for stop in figure.extra.get("stops", ())]
    ends = ends or list(figure.extra.get("positions", ()))
    return next(
        (row for row, end in enumerate(ends) if end >= focus.position), max(len(ends) - 1, 0)
    )


def _listed_row(figure: Figure, axis: Axis, focus: Focus) -> int:
    """Return the row of the token, neuron or feature of a focus; the first if it is not listed."""
    if axis.name == "neuron":
        chosen, listed = str(focus.neuron), list(axis.labels)
        return listed.index(chosen) if chosen in listed else 0
    wanted = focus.target
    if axis.name == "feature":
        wanted = dict(focus.options).get("feature", figure.extra.get("strongest"))
    ids = [int(entry) for entry in figure.extra.get("ids", ())]
    return ids.index(wanted) if wanted in ids else 0
