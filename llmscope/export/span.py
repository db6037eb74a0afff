"""The part of a figure that its span has: pictures leave out columns that were not computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.figure import Axis, Figure, Focus


def in_span(figure: Figure, focus: Focus | None) -> Figure:
    """Return the figure without the columns of positions before and after those of its span.

    Only columns that hold no number are left out, so the position of the focus stays.

    Args:
        figure: the figure; one without an axis of positions at the end is returned as it is.
        focus: the focus that it was made with; None, or one without a span: nothing is left out.
    """
    if focus is None or focus.span is None or figure.values.ndim < 2:
        return figure
    *others, axis = figure.axes
    if axis.name != "position" or axis.step != 1:
        return figure
    computed = ~np.isnan(figure.values).all(axis=tuple(range(len(others))))  # [position]
    places = np.flatnonzero(computed)
    if not len(places) or len(places) == len(axis):
        return figure
    start, stop = int(places[0]), int(places[-1]) + 1
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
