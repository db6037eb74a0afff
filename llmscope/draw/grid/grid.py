"""Draw a grid of values with row and column labels: the core of maps and heatmaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit
from llmscope.draw.grid.axes import foot_row, head_row, row_label
from llmscope.draw.grid.layout import STEPS, WORDS, Layout, lay_out
from llmscope.draw.grid.window import edge_row
from llmscope.draw.numbers import NARROW, number, telling
from llmscope.draw.numbers import column as column_of_numbers
from llmscope.draw.painting import Painting, Row
from llmscope.draw.scale import Scale, legend
from llmscope.draw.styles import Ramp, Styles

STAR = "*"
"""The mark of a number that differs from 0 beyond chance."""
WIDEST_STARRED = 5
"""Maximum width of a number that may have a star, in cells."""


@dataclass(frozen=True)
class Foot:
    """A row below the grid with one number for each column."""

    label: str
    values: NDArray[np.float32]
    unit: str


@dataclass(frozen=True)
class Grid:
    """A grid to draw.

    Attributes:
        values: a matrix [rows, columns]; NaN for an empty cell.
        rows, columns: labels, already sanitized.
        axes: names of the rows' and the columns' axis.
        row, column: the focus; None for no focus in that direction.
        causal: rows and columns show the same tokens, and columns after a row's are empty.
        offset: the column of the first row, if `causal`.
        unit: of the values.
        signed: the values are differences, whatever their signs.
        even: never use a logarithmic scale, so that small values look small.
        decades: give probabilities a logarithmic scale.
        corner: text above the row labels.
        texts: returns the text of a cell by row and column, already sanitized; None shows numbers.
        marked: whether each cell has a star, behind its number or where columns are too narrow for
            one; None for no stars.
        foot: a row below the grid, or None.
        cell: width of the columns; None fits it to the available width.
        narrowest, widest: limits of that width if `cell` is None.
        note: a remark for the legend.
        coloured: False draws numbers without a ramp.
    """

    values: NDArray[np.float32]
    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]
    row: int | None
    column: int | None
    causal: bool = False
    offset: int = 0
    unit: str = ""
    signed: bool = False
    even: bool = False
    decades: bool = False
    corner: str = ""
    texts: Callable[[int, int], str] | None = None
    marked: NDArray[np.bool_] | None = None
    foot: Foot | None = None
    cell: int | None = None
    narrowest: int = 1
    widest: int = STEPS[0]
    note: str = ""
    coloured: bool = True


def paint_grid(grid: Grid, width: int, height: int, style_set: Styles) -> Painting:
    """Draw the grid; if it does not fit, draw a window around its focus."""
    column = (grid.row or 0) + grid.offset if grid.causal else grid.column
    focus = (grid.row or 0, column or 0)
    layout = lay_out(
        width,
        height,
        list(grid.rows),
        len(grid.columns),
        focus,
        corner=grid.corner,
        foot=grid.foot.label if grid.foot else "",
        cell=grid.cell,
        narrowest=grid.narrowest,
        widest=grid.widest,
        causal=grid.causal,
        offset=grid.offset,
    )
    scale = Scale.of(
        grid.values, grid.unit, even=grid.even, signed=grid.signed, decades=grid.decades
    )
    rows: list[Row] = []
    if layout.head:
        rows.append(head_row(grid, layout, width, style_set))
    down = _body(grid, layout, scale, width, style_set, rows)
    if layout.foot and grid.foot:
        rows.append(foot_row(grid, grid.foot, layout, width, style_set))
    if layout.bottom:
        rows.append(edge_row(layout.columns, focus[1], layout.gutter, width, style_set))
    across = {
        layout.gutter + offset * layout.cell + inner: (grid.axes[1], index)
        for offset, index in enumerate(layout.columns.indices())
        for inner in range(layout.cell)
    }
    key = legend(scale, grid.unit, style_set, width, grid.note) if grid.coloured else None
    return Painting(finish(rows, width, height, style_set.base), key, across, down)


def _body(
    grid: Grid, layout: Layout, scale: Scale, width: int, style_set: Styles, rows: list[Row]
) -> dict[int, tuple[str, int]]:
    """Append the visible rows to `rows`; return the (axis name, index) of each screen row."""
    ramp = scale.ramp(style_set)
    window, columns = layout.rows, layout.columns
    sight = grid.values[window.start : window.stop, columns.start : columns.stop]
    steps = scale.steps(sight, len(ramp))
    wordy = layout.cell >= WORDS and (
        grid.texts is not None or grid.marked is not None or telling(grid.values, layout.cell - 2)
    )
    words = _words(grid, layout, style_set) if wordy else None
    down: dict[int, tuple[str, int]] = {}
    first = len(rows)
    thumb = window.thumb(window.size * layout.tall)
    for index in window.indices():
        focused = index == grid.row
        for inner in range(layout.tall):
            middle = inner == (layout.tall - 1) // 2
            label = grid.rows[index] if middle else ""
            line = row_label(label, focused and middle, layout, style_set)
            here = steps[index - window.start]
            cursor = grid.column - columns.start if focused and grid.column is not None else -1
            if not grid.coloured:
                here = np.full_like(here, -1)
            if words is not None:
                texts = words[index - window.start] if middle else None
                _wide(line, here, texts, cursor, layout.cell, ramp, style_set)
            else:
                stars = None
                if grid.marked is not None:
                    stars = grid.marked[index, columns.start : columns.stop]
                _narrow(line, here, cursor, layout.cell, ramp, style_set, stars)
            down[len(rows)] = (grid.axes[0], index)
            if layout.side:
                line.pad(width - 1, style_set.base)
                inside = thumb[0] <= len(rows) - first < thumb[1]
                glyph = style_set.glyphs.thumb_down if inside else style_set.glyphs.track_down
                line.add(glyph, style_set.dim if inside else style_set.border, 1)
            elif focused and middle and line.width < width and grid.column is None:
                line.add(style_set.glyphs.back, style_set.accent, 1)
            rows.append(line.row(width, style_set.base))
    return down


def _words(grid: Grid, layout: Layout, style_set: Styles) -> list[list[str]]:
    """Return the texts of the visible cells by row, each `cell` wide."""
    cell, window = layout.cell, layout.rows
    if grid.texts is not None:
        texts, ellipsis = grid.texts, style_set.glyphs.ellipsis
        return [
            [f" {fit(texts(row, col), cell - 1, ellipsis)}" for col in layout.columns.indices()]
            for row in window.indices()
        ]
    if grid.marked is not None:
        return [
            [
                fit(f" {_number_with_star(grid, row, col, cell - 2)}", cell)
                for col in layout.columns.indices()
            ]
            for row in window.indices()
        ]
    # On a signed scale small values count as zero and need no digits of their own; nor do small
    # probabilities where a cell has no room for them: `.00` would stand beside `0.0`.
    scale = Scale.of(grid.values, grid.unit, signed=grid.signed)
    coarse = grid.unit == "probability" and cell - 2 == NARROW and scale.kind != "log"
    if (scale.kind == "signed" or coarse) and scale.high >= 0.1:
        # Values are compared across columns, so all get the same number of decimals.
        sight = grid.values[window.start : window.stop, list(layout.columns.indices())]
        numbers = column_of_numbers(sight.ravel(), cell - 2, "", 3)
        width = sight.shape[1]
        rows = [numbers[at : at + width] for at in range(0, len(numbers), width)]
        return [[f" {text} " for text in row] for row in rows]
    columns = [
        column_of_numbers(grid.values[:, col], cell - 2, "")[window.start : window.stop]
        for col in layout.columns.indices()
    ]
    return [[f" {text} " for text in row] for row in zip(*columns, strict=True)]


def _number_with_star(grid: Grid, row: int, column: int, room: int) -> str:
    """Return the number of a cell in at most `room` cells, and its star if it has one."""
    value = float(grid.values[row, column])
    if math.isnan(value) or grid.marked is None:
        return ""
    return number(value, min(room, WIDEST_STARRED)) + STAR * bool(grid.marked[row, column])


def _wide(
    line: Line,
    steps: NDArray[np.int64],
    words: list[str] | None,
    cursor: int,
    cell: int,
    ramp: Ramp,
    style_set: Styles,
) -> None:
    styles, glyphs = ramp.styles, ramp.glyphs
    blank = " " * cell
    for offset, step in enumerate(steps.tolist()):
        style: Style = style_set.cursor if offset == cursor else styles[step]
        if words is None:
            line.add(blank if ramp.coloured else glyphs[step] + blank[1:], style, cell)
        elif ramp.coloured:
            line.add(words[offset], style, cell)
        else:
            # A minus sign beside a glyph for negative values would read as part of the glyph.
            mark = " " if words[offset].lstrip().startswith("-") else glyphs[step]
            line.add(mark + words[offset][1:], style, cell)


def _narrow(
    line: Line,
    steps: NDArray[np.int64],
    cursor: int,
    cell: int,
    ramp: Ramp,
    style_set: Styles,
    stars: NDArray[np.bool_] | None,
) -> None:
    styles, glyphs = ramp.styles, ramp.glyphs
    if not steps.size:
        return
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), steps.size]
    if 0 <= cursor < steps.size:
        edges = sorted({*edges, cursor, cursor + 1})
    starred = [] if stars is None else np.flatnonzero(stars).tolist()
    edges = sorted({*edges, *starred, *(place + 1 for place in starred)}) if starred else edges
    runs = steps[edges[:-1]].tolist()
    for start, stop, step in zip(edges, edges[1:], runs, strict=False):
        length = (stop - start) * cell
        if start == cursor:
            mark = style_set.glyphs.cursor + " " * (length - 1)
            line.add(mark, style_set.cursor, length)
        elif start in starred:
            line.add(STAR + glyphs[step] * (length - 1), styles[step], length)
        else:
            line.add(glyphs[step] * length, styles[step], length)
