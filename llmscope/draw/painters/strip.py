"""Paint one number of each token of a whole text in a strip: blocks of tokens, pooled to fit."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from llmscope.draw.cells import Line
from llmscope.draw.scale import Scale
from llmscope.draw.styles import Ramp, Styles

LEFT_HALF = "▌"


def blocks_per_cell(style_set: Styles) -> int:
    """Return the number of blocks that a cell shows: two where colours can fill half a cell."""
    return 2 if style_set.colours and not style_set.look.ascii else 1


def tokens_per_cell(count: int, cells: int, style_set: Styles) -> int:
    """Return how many tokens a cell of a strip shows, so that `count` tokens fit in `cells`."""
    halves = blocks_per_cell(style_set)
    return halves * -(-max(count, 1) // (halves * max(cells, 1)))


def strongest_of_blocks(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return the value of largest magnitude in each block of `size`; NaN where none is known."""
    if size <= 1 or not len(values):
        return values
    starts = np.arange(0, len(values), size)
    high = np.fmax.reduceat(values, starts)
    low = np.fmin.reduceat(values, starts)
    strongest: NDArray[np.float32] = np.where(np.abs(low) > np.abs(high), low, high)
    return strongest


def strip_scale(high: float, *, signed: bool = False) -> Scale:
    """Return the scale of a strip: from 0, or both ways from 0, to `high`."""
    high = high if high > 0 else 1.0
    return Scale(-high if signed else 0.0, high, "signed" if signed else "linear")


def add_strip(
    line: Line,
    values: NDArray[np.float32],
    cells: int,
    scale: Scale,
    style_set: Styles,
    *,
    per_cell: int,
    cursor: int | None = None,
) -> Line:
    """Append a strip of `cells` cells to a line, each cell the strongest of its tokens.

    Args:
        line: the line.
        values: the number of each token; NaN for a missing one. [position]
        cells: the width of the strip; what the tokens do not fill is blank.
        scale: the ends of the ramp.
        style_set: the styles.
        per_cell: see `tokens_per_cell`.
        cursor: the cell that is drawn as the cursor; None draws none.
    """
    halves = blocks_per_cell(style_set)
    ramp = scale.ramp(style_set)
    blocks = strongest_of_blocks(values, max(1, per_cell // halves))[: cells * halves]
    steps = np.full(cells * halves, -1, dtype=np.int64)
    marks = heights(ramp, style_set)
    steps[: len(blocks)] = scale.steps(blocks, len(ramp) if ramp.coloured else len(marks))
    for cell, pair in enumerate(steps.reshape(cells, halves).tolist()):
        if cell == cursor:
            line.add(style_set.glyphs.cursor, style_set.cursor, 1)
        elif not ramp.coloured:
            step = pair[0]
            style = style_set.base if scale.kind != "signed" else ramp.styles[step]
            line.add(marks[step] if step >= 0 else " ", style, 1)
        elif halves == 1 or pair[0] == pair[1]:
            line.add(" ", ramp.styles[pair[0]], 1)
        else:
            line.add(LEFT_HALF, _half(ramp.styles[pair[0]], ramp.styles[pair[1]]), 1)
    return line


def heights(ramp: Ramp, style_set: Styles) -> str:
    """Return the characters of a strip without colours, from the least to the most."""
    return "".join(ramp.glyphs[:-1]) if ramp.signed else style_set.glyphs.spark


@lru_cache(maxsize=4096)
def _half(left: Style, right: Style) -> Style:
    return Style(color=left.bgcolor, bgcolor=right.bgcolor)


def add_ends(line: Line, scale: Scale, style_set: Styles, low: str, high: str) -> Line:
    """Append the ramp between the numbers of its two ends."""
    ramp = scale.ramp(style_set)
    line.add(f"{low} ", style_set.dim)
    marks = heights(ramp, style_set)
    count = len(ramp) if ramp.coloured else len(marks)
    for index in range(4):
        step = round(index * (count - 1) / 3)
        if ramp.coloured:
            line.add(" ", ramp.styles[step], 1)
        else:
            line.add(marks[step], style_set.base, 1)
    return line.add(f" {high}", style_set.dim)


def add_track(
    line: Line,
    count: int,
    cells: int,
    style_set: Styles,
    *,
    per_cell: int,
    cursor: int,
    window: tuple[int, int] | None,
) -> Line:
    """Append the track below a strip: the window of a pane on it, and the cursor.

    Args:
        line: the line.
        count: the number of tokens.
        cells: the width of the track.
        style_set: the styles.
        per_cell: see `tokens_per_cell`.
        cursor: the position of the cursor.
        window: the first token in the window, and the one after the last; None: no window.
    """
    glyphs = style_set.glyphs
    used = -(-count // per_cell)
    first, last = (-1, -1)
    if window is not None:
        first, last = window[0] // per_cell, max(window[0], window[1] - 1) // per_cell
    for cell in range(min(cells, used)):
        if cell == cursor // per_cell:
            line.add(glyphs.up, style_set.accent, 1)
        elif first <= cell <= last:
            line.add(glyphs.thumb, style_set.base, 1)
        else:
            line.add(glyphs.track, style_set.border, 1)
    return line.pad(line.width + cells - min(cells, used), style_set.base)
