"""Any figure of any lens: by its kind alone, so that a new lens is drawn without new code."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid import Grid, paint_grid
from llmscope.draw.labels import axis_labels
from llmscope.draw.map import layer_row
from llmscope.draw.numbers import column, number
from llmscope.draw.painting import Painting, Row
from llmscope.draw.palette import Palette
from llmscope.draw.plots import line_runs
from llmscope.draw.window import Window
from llmscope.figure import Axis, Figure, Focus

NARROWEST_CURVE = 4


def focused_index(axis: Axis, focus: Focus) -> int | None:
    """The index on an axis that the focus points at; None if it does not point at that axis."""
    count = len(axis)
    if axis.name == "layer":
        return layer_row(axis.labels, focus.layer)
    if axis.name in ("position", "query"):
        return axis.index(focus.position)
    places = {
        "head": focus.head,
        "neuron": focus.neuron,
    }
    index = places.get(axis.name)
    return index % count if index is not None and -count <= index < count else None


def reduced(figure: Figure, dimensions: int, focus: Focus) -> Figure:
    """The figure with its leading axes cut at the focus, until `dimensions` remain at most."""
    while len(figure.axes) > dimensions:
        index = focused_index(figure.axes[0], focus) or 0
        figure = replace(figure, axes=figure.axes[1:], values=figure.values[index])
    return figure


def paint_heatmap(
    figure: Figure, width: int, height: int, palette: Palette, focus: Focus
) -> Painting:
    """Two axes as a grid; one axis as a single row of it."""
    figure = reduced(figure, 2, focus)
    if len(figure.axes) == 1:
        figure = replace(
            figure, axes=(Axis("", ("",)), figure.axes[0]), values=figure.values[np.newaxis]
        )
    return paint_grid(heatmap_grid(figure, palette, focus), width, height, palette)


def paint_table(
    figure: Figure, width: int, height: int, palette: Palette, focus: Focus
) -> Painting:
    """Numbers without colours: labels and values, or a grid of values."""
    figure = reduced(figure, 2, focus)
    if len(figure.axes) == 2:
        grid = replace(heatmap_grid(figure, palette, focus), coloured=False, narrowest=7)
        return paint_grid(grid, width, height, palette)
    labels = axis_labels(figure, 0, palette.look.ascii)
    here = focused_index(figure.axes[0], focus)
    window = Window.around(here or 0, len(labels), height)
    numbers = column(figure.values, 9, palette.glyphs.missing)
    named = max(1, min(max((cell_len(label) for label in labels), default=1), width - 12))
    rows: list[Row] = []
    for index in window.indices():
        style = palette.accent if index == here else palette.base
        mark = palette.glyphs.mark if index == here else " "
        line = Line().add(mark + fit(labels[index], named, palette.glyphs.ellipsis), style)
        rows.append(line.add(f" {numbers[index]}", style).row(width, palette.base))
    down = {row: (figure.axes[0].name, index) for row, index in enumerate(window.indices())}
    return Painting(finish(rows, width, height, palette.base), None, {}, down)


def paint_lines(
    figure: Figure, width: int, height: int, palette: Palette, focus: Focus
) -> Painting:
    """Curves along the last axis, one for each label of the axis before it."""
    figure = reduced(figure, 2, focus)
    curves = np.atleast_2d(figure.values)
    finite = curves[np.isfinite(curves)]
    if not finite.size:
        return Painting(finish((), width, height, palette.base))
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    ends = (number(high), number(low))
    gutter = max(map(len, ends)) + 1
    gutter = gutter if width - gutter >= NARROWEST_CURVE else 0
    foot = height >= 4
    plot = height - foot
    series = palette.series
    runs = line_runs(
        [np.asarray(curve) for curve in curves], low, high, width - gutter, plot, palette
    )
    rows: list[Row] = []
    for index, pieces in enumerate(runs):
        line = Line()
        if gutter:
            end = ends[0] if index == 0 else ends[1] if index == plot - 1 else ""
            line.add(f"{end:>{gutter - 1}} ", palette.dim)
        for text, number_of in pieces:
            style = series[number_of % len(series)] if number_of >= 0 else palette.base
            line.add(text, style)
        rows.append(line.row(width, palette.base))
    if foot:
        rows.append(_axis_row(figure, gutter, width, palette))
    return Painting(finish(rows, width, height, palette.base), _names(figure, palette), {}, {})


def _axis_row(figure: Figure, gutter: int, width: int, palette: Palette) -> Row:
    """The first and the last label of the x axis, and its name between them."""
    labels = axis_labels(figure, -1, palette.look.ascii)
    room = width - gutter
    first, last = labels[0], labels[-1] if len(labels) > 1 else ""
    middle = plain_text(figure.axes[-1].name, palette.look.ascii)
    line = Line().pad(gutter, palette.base).add(fit(first, min(cell_len(first), room)), palette.dim)
    place = gutter + (room - cell_len(middle)) // 2
    if line.width < place and place + cell_len(middle) + cell_len(last) < width:
        line.pad(place, palette.base).add(middle, palette.dim)
    if line.width + cell_len(last) < width:
        line.pad(width - cell_len(last), palette.base).add(last, palette.dim)
    return line.row(width, palette.base)


def _names(figure: Figure, palette: Palette) -> Row | None:
    """Which curve is which."""
    line = Line()
    if figure.unit:
        line.add(f"{plain_text(figure.unit, palette.look.ascii)} ", palette.dim)
    if len(figure.axes) == 2:
        for index, name in enumerate(axis_labels(figure, 0, palette.look.ascii)[:8]):
            style = palette.series[index % len(palette.series)]
            line.add(f"{palette.glyphs.thumb}{name} ", style)
    return line.row(line.width, palette.base) if line.width else None


def heatmap_grid(figure: Figure, palette: Palette, focus: Focus) -> Grid:
    """The grid of a figure with two axes, its labels made harmless and its focus marked."""
    rows, columns = figure.axes
    return Grid(
        figure.values,
        axis_labels(figure, 0, palette.look.ascii),
        axis_labels(figure, 1, palette.look.ascii),
        (rows.name, columns.name),
        focused_index(rows, focus),
        focused_index(columns, focus),
        unit=figure.unit,
        corner=plain_text(rows.name, palette.look.ascii),
        note="" if math.prod(figure.values.shape) else "empty",
    )
