"""Paint a figure of any lens by its kind alone, so that a new lens needs no painter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid.grid import Grid, paint_grid
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column, number
from llmscope.draw.painters.plots import line_runs
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.scale import BORDER, is_difference
from llmscope.draw.styles import Styles
from llmscope.figure import TRAINING_STEP, Axis, Figure, Focus
from llmscope.figure.cursor import focused_index, reduce_to_focus

NARROWEST_CURVE = 4
LEAST_WITH_AXIS, LEAST_WITH_TICKS = 4, 8
"""Minimum height of a plot that shows the ends of its x axis, and all its labels."""


def paint_heatmap(figure: Figure, canvas: Canvas) -> Painting:
    """Paint two axes as a grid, one axis as a grid of a single row."""
    figure = reduce_to_focus(figure, 2, canvas.focus)
    if len(figure.axes) == 1:
        figure = replace(
            figure, axes=(Axis("", ("",)), figure.axes[0]), values=figure.values[np.newaxis]
        )
    return paint_grid(heatmap_grid(figure, canvas), canvas.width, canvas.height, canvas.styles)


def paint_table(figure: Figure, canvas: Canvas) -> Painting:
    """Paint numbers without colours: labels and values, or a grid of values."""
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    figure = reduce_to_focus(figure, 2, focus)
    if len(figure.axes) == 2:
        grid = replace(heatmap_grid(figure, canvas), coloured=False, narrowest=7)
        return paint_grid(grid, width, height, style_set)
    labels = axis_labels(figure, 0, style_set.look.ascii)
    here = focused_index(figure.axes[0], focus)
    window = Window.around(here or 0, len(labels), height)
    numbers = column(figure.values, 9, style_set.glyphs.missing)
    named = max(1, min(max((cell_len(label) for label in labels), default=1), width - 12))
    rows: list[Row] = []
    for index in window.indices():
        style = style_set.accent if index == here else style_set.base
        mark = style_set.glyphs.mark if index == here else " "
        line = Line().add(mark + fit(labels[index], named, style_set.glyphs.ellipsis), style)
        rows.append(line.add(f" {numbers[index]}", style).row(width, style_set.base))
    down = {row: (figure.axes[0].name, index) for row, index in enumerate(window.indices())}
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def paint_lines(figure: Figure, canvas: Canvas) -> Painting:
    """Paint curves along the last axis, one for each label of the axis before it."""
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    figure = reduce_to_focus(figure, 2, focus)
    curves = np.atleast_2d(figure.values)
    finite = curves[np.isfinite(curves)]
    if not finite.size:
        return Painting(finish((), width, height, style_set.base))
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    ends = (number(high), number(low))
    gutter = max(map(len, ends)) + 1
    gutter = gutter if width - gutter >= NARROWEST_CURVE else 0
    axis = _axis_rows(figure, gutter, width, height, style_set)
    plot = height - len(axis)
    marks = _marks(figure, style_set)
    rule = _rule(figure, focus, width - gutter)
    runs = line_runs(
        [np.asarray(curve) for curve in curves], low, high, width - gutter, plot, style_set, marks
    )
    rows: list[Row] = []
    for index, pieces in enumerate(runs):
        line = Line()
        if gutter:
            end = ends[0] if index == 0 else ends[1] if index == plot - 1 else ""
            line.add(f"{end:>{gutter - 1}} ", style_set.dim)
        place = 0
        for text, number_of in pieces:
            blank = number_of < 0
            style = style_set.base if blank else _series(style_set, number_of)
            at = None if rule is None or not blank else rule - place
            if at is not None and 0 <= at < len(text):
                line.add(text[:at], style).add(style_set.glyphs.track_down, style_set.dim)
                line.add(text[at + 1 :], style)
            else:
                line.add(text, style)
            place += len(text)
        rows.append(line.row(width, style_set.base))
    rows.extend(axis)
    legend = _names(figure, marks, width, style_set)
    return Painting(finish(rows, width, height, style_set.base), legend, {}, {})


def _rule(figure: Figure, focus: Focus, width: int) -> int | None:
    """Return the column of the training step that the focus is at; None without one."""
    axis = figure.axes[-1]
    here = focused_index(axis, focus) if axis.name == TRAINING_STEP else None
    return None if here is None else round(here / max(1, len(axis) - 1) * (width - 1))


def _series(style_set: Styles, index: int) -> Style:
    return style_set.series[index % len(style_set.series)]


def _marks(figure: Figure, style_set: Styles) -> str:
    """Return letters to distinguish several curves if there are no colours."""
    several = len(figure.axes) == 2 and len(figure.axes[0]) > 1
    return ascii_lowercase if several and style_set.look.tier == "none" else ""


def _axis_rows(
    figure: Figure, gutter: int, width: int, height: int, style_set: Styles
) -> list[Row]:
    """Draw the x axis: a label below each point and the axis's name below them, if they fit.

    Otherwise draw the first and the last label with the name between them, if these fit.
    """
    if height < LEAST_WITH_AXIS:
        return []
    labels = axis_labels(figure, -1, style_set.look.ascii)
    name = plain_text(figure.axes[-1].name, style_set.look.ascii)
    room = width - gutter
    middle = gutter + (room - cell_len(name)) // 2
    line = Line().pad(gutter, style_set.base)
    places = _below(labels, gutter, width) if height >= LEAST_WITH_TICKS else None
    if places is not None:
        for place, label in zip(places, labels, strict=True):
            line.pad(place, style_set.base).add(label, style_set.dim)
        named = Line().pad(middle, style_set.base).add(name, style_set.dim)
        return [line.row(width, style_set.base), named.row(width, style_set.base)]
    first, last = labels[0], labels[-1] if len(labels) > 1 else ""
    line.add(fit(first, min(cell_len(first), room)), style_set.dim)
    if line.width < middle and middle + cell_len(name) + cell_len(last) < width:
        line.pad(middle, style_set.base).add(name, style_set.dim)
    if line.width + cell_len(last) < width:
        line.pad(width - cell_len(last), style_set.base).add(last, style_set.dim)
    return [line.row(width, style_set.base)]


def _below(labels: Sequence[str], gutter: int, width: int) -> list[int] | None:
    """Return the column where each label starts, centred below its point; None if they touch."""
    step = (width - gutter - 1) / max(len(labels) - 1, 1)
    places: list[int] = []
    free = gutter
    for index, label in enumerate(labels):
        middle = gutter + round(index * step)
        place = max(gutter, min(middle - cell_len(label) // 2, width - cell_len(label)))
        if place < free:
            return None
        places.append(place)
        free = place + cell_len(label) + 1
    return places


def _names(figure: Figure, marks: str, width: int, style_set: Styles) -> Row | None:
    """Draw the legend: the unit, and as many names of curves as the lower border holds."""
    line = Line()
    if figure.unit:
        line.add(plain_text(figure.unit, style_set.look.ascii), style_set.dim)
    names = axis_labels(figure, 0, style_set.look.ascii) if len(figure.axes) == 2 else []
    for index, name in enumerate(names):
        mark = f"{marks[index % len(marks)]} " if marks else style_set.glyphs.thumb
        text = f"{'  ' if line.width else ''}{mark}{name}"
        if line.width + cell_len(text) + 2 > width - BORDER:
            line.add(f" {style_set.glyphs.ellipsis}", style_set.dim)
            break
        line.add(text, _series(style_set, index))
    return line.row(line.width, style_set.base) if line.width else None


def heatmap_grid(figure: Figure, canvas: Canvas) -> Grid:
    """Return the grid of a figure with two axes, with sanitized labels and the focus."""
    rows, columns = figure.axes
    style_set, focus = canvas.styles, canvas.focus
    return Grid(
        figure.values,
        axis_labels(figure, 0, style_set.look.ascii),
        axis_labels(figure, 1, style_set.look.ascii),
        (rows.name, columns.name),
        focused_index(rows, focus),
        focused_index(columns, focus),
        unit=figure.unit,
        signed=is_difference(figure),
        corner=plain_text(rows.name, style_set.look.ascii),
        marked=_marked_cells(figure),
        note=_note(figure, style_set),
    )


def _marked_cells(figure: Figure) -> NDArray[np.bool_] | None:
    """Return which cells `extra["marked"]` marks; None if the figure marks none."""
    marked = figure.extra.get("marked")
    if marked is None or np.shape(marked) != figure.values.shape:
        return None
    return np.asarray(marked, dtype=np.bool_)


def _note(figure: Figure, style_set: Styles) -> str:
    """Return the name of the column axis; that of the row axis is above the row labels."""
    if not math.prod(figure.values.shape):
        return "empty"
    name = plain_text(figure.axes[1].name, style_set.look.ascii)
    return f"across: {name}" if name else ""
