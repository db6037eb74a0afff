"""The axes of a grid: row labels, column labels above, a row of numbers below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from llmscope.draw.cells import Line, fit, token_text
from llmscope.draw.grid.layout import WORDS, Layout
from llmscope.draw.numbers import column as column_of_numbers
from llmscope.draw.numbers import number
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles
from llmscope.figure import TRAINING_STEP

if TYPE_CHECKING:
    from llmscope.draw.grid.grid import Foot, Grid

FOOT_PLACES = 2
BRIEF = 4
"""Width in cells up to which a label is cut without an ellipsis."""


def row_label(text: str, focused: bool, layout: Layout, style_set: Styles) -> Line:
    """Start a row with its label, right-aligned in the gutter and marked if focused."""
    line = Line()
    if not layout.gutter:
        return line
    name = fit(text, min(cell_len(text), layout.gutter - 2), style_set.glyphs.ellipsis)
    fitted = fit(
        (style_set.glyphs.mark if focused else "") + name, layout.gutter - 1, align="right"
    )
    return line.add(f"{fitted} ", style_set.accent if focused else style_set.dim, layout.gutter)


def head_row(grid: Grid, layout: Layout, width: int, style_set: Styles) -> Row:
    """Draw the column labels: all if they fit, else the focused one and those that fit around."""
    corner = grid.corner if cell_len(grid.corner) <= layout.gutter - 2 else ""
    line = row_label(corner, False, layout, style_set)
    mark, cell = style_set.glyphs.mark, layout.cell
    if cell >= WORDS - 1:
        for index in layout.columns.indices():
            focused = index == grid.column
            style = style_set.accent if focused else style_set.dim
            if grid.texts is None and grid.marked is None and cell >= WORDS:
                # Right-align the label as the numbers below it are.
                name = brief(grid.columns[index], cell - 1 - focused, style_set)
                line.add(fit((mark if focused else "") + name, cell - 1, align="right"), style)
                line.add(" ", style)
                continue
            name = brief(grid.columns[index], cell - 1, style_set)
            line.add(fit(f"{mark if focused else ' '}{name}", cell), style, cell)
        return line.row(width, style_set.base)
    stages: list[int] = []
    if grid.axes[1] == TRAINING_STEP:
        names = [index for index, label in enumerate(grid.columns) if not label.isdecimal()]
        stages = names if len(names) < len(grid.columns) else []  # else all are checkpoints
    return _ticks(line, grid.columns, grid.column, layout, width, style_set, stages)


def brief(name: str, room: int, style_set: Styles) -> str:
    """Shorten a label to at most `room` cells.

    In `BRIEF` cells or fewer drop the leading blank of a token and the ellipsis, to show letters.
    """
    if cell_len(name) <= room:
        return name
    if room <= BRIEF:
        letters = name.removeprefix(token_text(" ", style_set.look.ascii))
        return fit(letters, min(room, cell_len(letters)))
    return fit(name, room, style_set.glyphs.ellipsis)


def _ticks(
    line: Line,
    labels: Sequence[str],
    focus: int | None,
    layout: Layout,
    width: int,
    style_set: Styles,
    stages: Sequence[int] = (),
) -> Row:
    """Draw labels over narrow columns, each starting at its own column.

    The focused label is placed first; then, from the left, all that do not touch another. Columns
    at which a stage of a training begins come before the others, each with a separator.
    """
    start, end = line.width, width
    placed: list[tuple[int, int, str, bool]] = []
    window = layout.columns
    if focus is not None and focus in window.indices():
        text = style_set.glyphs.mark + labels[focus]
        length = min(cell_len(text), end - start)
        place = min(start + (focus - window.start) * layout.cell, end - length)
        placed.append((place, place + length, fit(text, length, style_set.glyphs.ellipsis), True))
    begun = [index for index in stages if index in window.indices()]
    for index in (*begun, *(index for index in window.indices() if index not in stages)):
        label = (style_set.glyphs.track_down if index in stages else "") + labels[index]
        place = start + (index - window.start) * layout.cell
        stop = place + cell_len(label)
        if stop > end or index == focus:
            continue
        if any(place < other_stop + 1 and stop + 1 > other for other, other_stop, *_ in placed):
            continue
        placed.append((place, stop, label, False))
    for place, stop, text, focused in sorted(placed):
        line.pad(place, style_set.base)
        line.add(text, style_set.accent if focused else style_set.dim, stop - place)
    return line.row(width, style_set.base)


def foot_row(grid: Grid, foot: Foot, layout: Layout, width: int, style_set: Styles) -> Row:
    """Draw the foot row: numbers if the cells are wide enough, else heights; mark the focus."""
    line = row_label(foot.label, False, layout, style_set)
    cell, glyphs = layout.cell, style_set.glyphs
    finite = foot.values[np.isfinite(foot.values)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    numbers: list[str] = []
    if cell >= WORDS:
        numbers = column_of_numbers(foot.values, cell - 2, glyphs.missing, FOOT_PLACES)
        if grid.texts is not None:
            numbers = [fit(text.strip(), cell - 2) for text in numbers]
    for index in layout.columns.indices():
        value = float(foot.values[index])
        style = style_set.accent if index == grid.column else style_set.dim
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
            line.add(f" {remark}", style_set.dim)
    return line.row(width, style_set.base)
