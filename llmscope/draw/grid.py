"""A grid of values under column labels and beside row labels: the core of maps and heatmaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit
from llmscope.draw.layout import STEPS, WORDS, Layout, lay_out
from llmscope.draw.numbers import column as column_of_numbers
from llmscope.draw.numbers import number
from llmscope.draw.painting import Painting, Row
from llmscope.draw.palette import Palette, Ramp
from llmscope.draw.scale import Scale, legend
from llmscope.draw.window import edge_row

FOOT_PLACES = 2


@dataclass(frozen=True)
class Foot:
    """A row of numbers that belongs to the columns, below the grid."""

    label: str
    values: NDArray[np.float32]
    unit: str


@dataclass(frozen=True)
class Grid:
    """What to draw.

    Attributes:
        values: one row a label of `rows`, one column a label of `columns`; NaN: nothing there.
        rows, columns: labels, harmless already.
        axes: names of the rows' and the columns' axis.
        row, column: the focus; None: that direction has none.
        follow: a column that must be in sight where there is no focused one.
        unit: of the values.
        corner: what stands above the row labels.
        texts: words for the cells, by row and column, harmless already.
        foot: a row below.
        cell: width of the columns, if someone decided.
        narrowest, widest: limits of that width otherwise.
        note: a remark for the legend.
        coloured: False draws numbers without a ramp.
    """

    values: NDArray[np.float32]
    rows: Sequence[str]
    columns: Sequence[str]
    axes: tuple[str, str]
    row: int | None
    column: int | None
    follow: int = 0
    unit: str = ""
    corner: str = ""
    texts: Callable[[int, int], str] | None = None
    foot: Foot | None = None
    cell: int | None = None
    narrowest: int = 1
    widest: int = STEPS[0]
    note: str = ""
    coloured: bool = True


def paint_grid(grid: Grid, width: int, height: int, palette: Palette) -> Painting:
    """The grid, windowed around its focus where it does not fit."""
    focus = (grid.row or 0, grid.follow if grid.column is None else grid.column)
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
    )
    scale = Scale.of(grid.values, grid.unit)
    rows: list[Row] = []
    if layout.head:
        rows.append(_head(grid, layout, width, palette))
    down = _body(grid, layout, scale, width, palette, rows)
    if layout.foot and grid.foot:
        rows.append(_foot(grid, grid.foot, layout, width, palette))
    if layout.bottom:
        rows.append(edge_row(layout.columns, focus[1], layout.gutter, width, palette))
    across = {
        layout.gutter + offset * layout.cell + inner: (grid.axes[1], index)
        for offset, index in enumerate(layout.columns.indices())
        for inner in range(layout.cell)
    }
    key = legend(scale, grid.unit, palette, grid.note) if grid.coloured else None
    return Painting(finish(rows, width, height, palette.base), key, across, down)


def _label(grid: Grid, text: str, focused: bool, layout: Layout, palette: Palette) -> Line:
    line = Line()
    if not layout.gutter:
        return line
    name = fit(text, min(cell_len(text), layout.gutter - 2), palette.glyphs.ellipsis)
    shown = fit((palette.glyphs.mark if focused else "") + name, layout.gutter - 1, align="right")
    return line.add(f"{shown} ", palette.accent if focused else palette.dim, layout.gutter)


def _head(grid: Grid, layout: Layout, width: int, palette: Palette) -> Row:
    """Column labels: one a column where they fit; else the focused one and what fits around it."""
    corner = grid.corner if cell_len(grid.corner) <= layout.gutter - 2 else ""
    line = _label(grid, corner, False, layout, palette)
    mark, cell, ellipsis = palette.glyphs.mark, layout.cell, palette.glyphs.ellipsis
    if cell >= WORDS - 1:
        for index in layout.columns.indices():
            focused = index == grid.column
            style = palette.accent if focused else palette.dim
            if grid.texts is None and cell >= WORDS:
                # Numbers stand to the right in their cells, and what is above them does too.
                name = grid.columns[index]
                name = fit(name, min(cell - 1 - focused, cell_len(name)), ellipsis)
                line.add(fit((mark if focused else "") + name, cell - 1, align="right"), style)
                line.add(" ", style)
                continue
            name = fit(grid.columns[index], cell - 1, ellipsis)
            line.add(f"{mark if focused else ' '}{name}", style, cell)
        return line.row(width, palette.base)
    return ticks(line, grid.columns, grid.column, layout, width, palette)


def ticks(
    line: Line,
    labels: Sequence[str],
    focus: int | None,
    layout: Layout,
    width: int,
    palette: Palette,
) -> Row:
    """Labels over narrow columns, each starting at its own.

    The focused one comes first; then, from the left, whatever has a blank before the next.
    """
    start, end = line.width, width
    taken: list[tuple[int, int, str, bool]] = []
    window = layout.columns
    if focus is not None and focus in window.indices():
        text = palette.glyphs.mark + labels[focus]
        length = min(cell_len(text), end - start)
        place = min(start + (focus - window.start) * layout.cell, end - length)
        taken.append((place, place + length, fit(text, length, palette.glyphs.ellipsis), True))
    free = start
    for index in window.indices():
        place = start + (index - window.start) * layout.cell
        stop = place + cell_len(labels[index])
        if place < free or stop > end or index == focus:
            continue
        if any(place < other_stop + 1 and stop + 1 > other for other, other_stop, *_ in taken):
            continue
        taken.append((place, stop, labels[index], False))
        free = stop + 1
    for place, stop, text, focused in sorted(taken):
        line.pad(place, palette.base)
        line.add(text, palette.accent if focused else palette.dim, stop - place)
    return line.row(width, palette.base)


def _body(
    grid: Grid, layout: Layout, scale: Scale, width: int, palette: Palette, rows: list[Row]
) -> dict[int, tuple[str, int]]:
    """Append the rows in sight; gives which screen row shows which."""
    ramp = scale.ramp(palette)
    window, columns = layout.rows, layout.columns
    steps = scale.steps(grid.values, len(ramp))[:, columns.start : columns.stop]
    words = _words(grid, layout, palette) if layout.cell >= WORDS else None
    down: dict[int, tuple[str, int]] = {}
    first = len(rows)
    thumb = window.thumb(window.size * layout.tall)
    for index in window.indices():
        focused = index == grid.row
        for inner in range(layout.tall):
            middle = inner == (layout.tall - 1) // 2
            label = grid.rows[index] if middle else ""
            line = _label(grid, label, focused and middle, layout, palette)
            here = steps[index]
            cursor = grid.column - columns.start if focused and grid.column is not None else -1
            if not grid.coloured:
                here = np.full_like(here, -1)
            if words is not None:
                texts = words[index - window.start] if middle else None
                _wide(line, here, texts, cursor, layout.cell, ramp, palette)
            else:
                _narrow(line, here, cursor, layout.cell, ramp, palette)
            down[len(rows)] = (grid.axes[0], index)
            if layout.side:
                line.pad(width - 1, palette.base)
                inside = thumb[0] <= len(rows) - first < thumb[1]
                glyph = palette.glyphs.thumb_down if inside else palette.glyphs.track_down
                line.add(glyph, palette.dim if inside else palette.border, 1)
            elif focused and middle and line.width < width and grid.column is None:
                line.add(palette.glyphs.back, palette.accent, 1)
            rows.append(line.row(width, palette.base))
    return down


def _words(grid: Grid, layout: Layout, palette: Palette) -> list[list[str]]:
    """The words of the cells in sight, each `cell` wide, by row."""
    cell, window = layout.cell, layout.rows
    if grid.texts is not None:
        texts, ellipsis = grid.texts, palette.glyphs.ellipsis
        return [
            [f" {fit(texts(row, col), cell - 1, ellipsis)}" for col in layout.columns.indices()]
            for row in window.indices()
        ]
    columns = [
        column_of_numbers(grid.values[:, col], cell - 2, "")[window.start : window.stop]
        for col in layout.columns.indices()
    ]
    return [[f" {text} " for text in row] for row in zip(*columns, strict=True)]


def _wide(
    line: Line,
    steps: NDArray[np.int64],
    words: list[str] | None,
    cursor: int,
    cell: int,
    ramp: Ramp,
    palette: Palette,
) -> None:
    styles, glyphs = ramp.styles, ramp.glyphs
    blank = " " * cell
    for offset, step in enumerate(steps.tolist()):
        style: Style = palette.cursor if offset == cursor else styles[step]
        if words is None:
            line.add(blank if ramp.coloured else glyphs[step] + blank[1:], style, cell)
        elif ramp.coloured:
            line.add(words[offset], style, cell)
        else:
            line.add(glyphs[step] + words[offset][1:], style, cell)


def _narrow(
    line: Line, steps: NDArray[np.int64], cursor: int, cell: int, ramp: Ramp, palette: Palette
) -> None:
    styles, glyphs = ramp.styles, ramp.glyphs
    if not steps.size:
        return
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), steps.size]
    if 0 <= cursor < steps.size:
        edges = sorted({*edges, cursor, cursor + 1})
    runs = steps[edges[:-1]].tolist()
    for start, stop, step in zip(edges, edges[1:], runs, strict=False):
        length = (stop - start) * cell
        if start == cursor:
            mark = palette.glyphs.cursor + " " * (length - 1)
            line.add(mark, palette.cursor, length)
        else:
            line.add(glyphs[step] * length, styles[step], length)


def _foot(grid: Grid, foot: Foot, layout: Layout, width: int, palette: Palette) -> Row:
    """Numbers where they fit, heights where they do not; the focused one is marked."""
    line = _label(grid, foot.label, False, layout, palette)
    cell, glyphs = layout.cell, palette.glyphs
    finite = foot.values[np.isfinite(foot.values)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    numbers: list[str] = []
    if cell >= WORDS:
        numbers = column_of_numbers(foot.values, cell - 2, glyphs.missing, FOOT_PLACES)
        if grid.texts is not None:
            numbers = [fit(text.strip(), cell - 2) for text in numbers]
    for index in layout.columns.indices():
        value = float(foot.values[index])
        style = palette.accent if index == grid.column else palette.dim
        if numbers:
            line.add(f" {numbers[index]} ", style, cell)
        elif np.isnan(value):
            line.add(fit(glyphs.missing, cell), style, cell)
        else:
            height = min(max(value / top, 0.0), 1.0) * (len(glyphs.spark) - 1)
            full = max(1, cell - 1) if cell > 2 else cell
            line.add(fit(glyphs.spark[round(height)] * full, cell), style, cell)
    if layout.columns.stop == layout.columns.count:
        remark = foot.unit if numbers else f"max {number(top, 4)} {foot.unit}"
        if width - line.width - layout.side >= cell_len(remark) + 1:
            line.add(f" {remark}", palette.dim)
    return line.row(width, palette.base)
