"""The part of a figure that its span has: columns that were not computed are left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.figure import Axis, Figure, Focus


def crop_to_span(figure: Figure, focus: Focus | None) -> Figure:
    """Return the figure without the positions before and after its span, which hold no number.

    Args:
        figure: the figure; it is returned as it is unless its last axis is one of positions.
        focus: the focus that it was computed for; None, or one without a span: nothing is left out.
    """
    if focus is None or focus.span is None or figure.values.ndim < 2:
        return figure
    *others, axis = figure.axes
    if axis.name != "position" or axis.step != 1:
        return figure
    computed = ~np.isnan(figure.values).all(axis=tuple(range(len(others))))  # [position]
    indices = np.flatnonzero(computed)
    if not len(indices) or len(indices) == len(axis):
        return figure
    start, stop = int(indices[0]), int(indices[-1]) + 1
    columns = (..., slice(start, stop))
    return replace(
        figure,
        axes=(*others, Axis(axis.name, axis.labels[start:stop], axis.start + start)),
        values=figure.values[columns].copy(),
        extra={
            key: value[columns] if np.shape(value) == figure.values.shape else value
            for key, value in figure.extra.items()
        },
    )
