"""Small multiples: a tile with a small heatmap for each index of the first axis.

They show heatmaps with three axes, such as the attention patterns of all heads of a layer. Rows
and columns of the tiles have no labels; the focused row is marked, and spelled out below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid.labels import PROMPT_AXES, axis_labels
from llmscope.draw.grid.window import Window
from llmscope.draw.painters.attention import strongest
from llmscope.draw.painting import Box, Canvas, Painting, Row
from llmscope.draw.scale import Scale, legend
from llmscope.draw.styles import Ramp, Styles
from llmscope.figure import Figure
from llmscope.figure.cursor import focused_index

GAP = 2
"""Columns between two tiles; the second one holds the mark of the focus."""
FEWEST = 6
"""Minimum number of blocks in a tile; below it, tiles are left out rather than pooled more."""
SCALES = {2: ((4, 4), (3, 3), (2, 2), (2, 1), (1, 1)), 1: ((4, 2), (2, 1), (1, 1))}
"""For each number of dots per cell: columns of cells and rows of dots per value, best first."""
UPPER_HALF = "▀"


@dataclass(frozen=True)
class TileLayout:
    """The layout of the tiles.

    Attributes:
        pool: blocks of `pool` × `pool` values are pooled by their maximum.
        across, down: columns of cells and rows of dots per value.
        width, height: of a tile in cells, without its label.
        shown: the visible tiles.
        beside: the number of tiles in one band.
        apart: the number of blank rows between two bands.
    """

    pool: int
    across: int
    down: int
    width: int
    height: int
    shown: Window
    beside: int
    apart: int


def plan(shape: tuple[int, ...], width: int, height: int, dots: int, focus: int) -> TileLayout:
    """Choose the least pooled and then the largest layout that fits all tiles, or as many as fit.

    Args:
        shape: number of tiles, and of rows and columns of each.
        width, height: the available cells.
        dots: the number of dots in a cell's height.
        focus: the tile that must be visible.
    """
    count, rows, columns = shape
    pool = 1
    while True:
        high, wide = -(-rows // pool), -(-columns // pool)
        last = max(high, wide) // 2 < FEWEST
        for across, down in SCALES[dots]:
            size = across * wide, -(-down * high // dots)
            beside, bands = width // (size[0] + GAP), height // (size[1] + 1)
            smallest = (across, down) == (1, 1) and last
            if beside * bands >= count or (smallest and beside * bands):
                window = Window.around(focus, count, beside * bands)
                used = -(-window.size // beside)
                spare = used * (size[1] + 2) - 1 <= height
                return TileLayout(
                    pool, across, down, *size, window, -(-window.size // used), int(spare)
                )
        if max(high, wide) == 1:  # not even one cell fits
            return TileLayout(pool, 1, 1, 0, 0, Window(0, 0, count), 1, 0)
        pool *= 2


def paint_small_multiples(figure: Figure, canvas: Canvas) -> Painting:
    """Paint a tile per index of the first axis, as many as fit, pooled if there are few cells."""
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    scale = Scale.of_figure(figure)
    ramp = scale.ramp(style_set)
    dots = 2 if ramp.coloured and not style_set.look.ascii else 1
    words = height >= 8 and tuple(axis.name for axis in figure.axes[1:]) == ("query", "key")
    chosen = focused_index(figure.axes[0], focus) or 0
    room = height - 2 * words  # the text, and a blank row above it
    shape = (len(figure.axes[0]), len(figure.axes[1]), len(figure.axes[2]))
    layout = plan(shape, width, room, dots, chosen)
    steps = scale.steps(_pool_blocks(figure.values, layout.pool), len(ramp))
    row = focused_index(figure.axes[1], focus)
    rows: list[Row] = []
    boxes: list[Box] = []
    for start in range(layout.shown.start, layout.shown.stop, layout.beside):
        band = range(start, min(start + layout.beside, layout.shown.stop))
        if rows and layout.apart:
            rows.append(Line().row(width, style_set.base))
        top = len(rows)
        rows.append(_numbers(figure, band, chosen, layout, width, style_set))
        for line in range(layout.height):
            rows.append(_line(steps, band, line, chosen, row, layout, dots, ramp, width, style_set))
        for place, index in enumerate(band):
            left = GAP + place * (layout.width + GAP)
            across = range(left - 1, left + layout.width)
            boxes.append((across, range(top, len(rows)), figure.axes[0].name, index))
    rows = list(finish(rows, width, room, style_set.base))
    if words:
        rows += (Line().row(width, style_set.base), _words(figure, chosen, row, width, style_set))
    key = legend(scale, figure.unit, style_set, width)
    return Painting(tuple(rows), key, boxes=tuple(boxes), remark=_remark(figure, layout))


def _pool_blocks(values: NDArray[np.float32], pool: int) -> NDArray[np.float32]:
    """Return the maximum of each block, ignoring NaN, as [tile, row, column]."""
    if pool == 1:
        return values
    by_column = np.fmax.reduceat(values, np.arange(0, values.shape[2], pool), axis=2)
    pooled: NDArray[np.float32] = np.fmax.reduceat(
        by_column, np.arange(0, values.shape[1], pool), axis=1
    )
    return pooled


def _numbers(
    figure: Figure, band: range, chosen: int, layout: TileLayout, width: int, style_set: Styles
) -> Row:
    """Draw the labels of the tiles of a band: `head 3`, or only the number if it does not fit."""
    axis, ascii_only = figure.axes[0], style_set.look.ascii
    names = [plain_text(axis.labels[index], ascii_only) for index in band]
    named = [f"{plain_text(axis.name, ascii_only)} {name}" for name in names]
    if max(map(cell_len, named)) <= layout.width:
        names = named
    line = Line()
    for place, (index, name) in enumerate(zip(band, names, strict=True)):
        line.pad(GAP - 1 + place * (layout.width + GAP), style_set.base)
        text = (style_set.glyphs.mark if index == chosen else " ") + name
        style = style_set.accent if index == chosen else style_set.dim
        line.add(fit(text, min(cell_len(text), layout.width + 1)), style)
    return line.row(width, style_set.base)


def _line(
    steps: NDArray[np.int64],
    band: range,
    line: int,
    chosen: int,
    focus: int | None,
    layout: TileLayout,
    dots: int,
    ramp: Ramp,
    width: int,
    style_set: Styles,
) -> Row:
    """Draw one row of cells through all tiles of a band."""
    drawn, count = Line(), steps.shape[1]
    here = [(line * dots + dot) // layout.down for dot in range(dots)]  # row of values per dot
    marked = focus is not None and focus // layout.pool in here
    for place, index in enumerate(band):
        drawn.pad(GAP - 1 + place * (layout.width + GAP), style_set.base)
        mark = style_set.glyphs.mark if marked else " "
        drawn.add(mark, style_set.accent if index == chosen else style_set.dim, 1)
        upper = steps[index, here[0]].tolist() if here[0] < count else [-1] * steps.shape[2]
        lower = steps[index, here[-1]].tolist() if here[-1] < count else [-1] * steps.shape[2]
        for above, below in zip(upper, lower, strict=True):
            if above == below:
                drawn.add(ramp.glyphs[above] * layout.across, ramp.styles[above], layout.across)
            else:
                style = _halves(ramp.styles[above], ramp.styles[below])
                drawn.add(UPPER_HALF * layout.across, style, layout.across)
    return drawn.row(width, style_set.base)


@lru_cache(maxsize=4096)
def _halves(above: Style, below: Style) -> Style:
    """Return a style with one background as foreground and the other as background."""
    return Style(color=above.bgcolor, bgcolor=below.bgcolor)


def _words(figure: Figure, chosen: int, row: int | None, width: int, style_set: Styles) -> Row:
    """Draw the strongest keys of the chosen tile's focused query."""
    alone = replace(figure, axes=figure.axes[1:], values=figure.values[chosen])
    queries, keys = (axis_labels(alone, axis, style_set.look.ascii) for axis in (0, 1))
    axis = figure.axes[0]
    who = plain_text(f"{axis.name} {axis.labels[chosen]}", style_set.look.ascii)
    return strongest(alone, queries, keys, row, width, style_set, who=who)


def _remark(figure: Figure, layout: TileLayout) -> str:
    """Return the text to append to the title: which tiles are visible, and how much is pooled."""
    texts = []
    axis, window = figure.axes[0], layout.shown
    if window.partial and window.size:
        texts.append(f"{axis.name} {window.start}–{window.stop - 1} of {window.count}")
    if layout.pool > 1:
        step = layout.pool * figure.axes[1].step
        tokens = all(axis.name in PROMPT_AXES for axis in figure.axes[1:])
        texts.append(f"max of {step}×{step} {'tokens' if tokens else 'cells'}")
    return " · ".join(texts)
