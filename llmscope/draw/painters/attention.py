"""Paint an attention pattern: queries from top to bottom, keys from left to right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish
from llmscope.draw.grid.grid import Grid, paint_grid
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.numbers import number, signed_share
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.scale import is_difference
from llmscope.draw.styles import Styles
from llmscope.figure import Figure
from llmscope.support.numbers import significant

WIDEST_CELL = 7
MOST_KEYS = 6


def paint_attention(figure: Figure, canvas: Canvas) -> Painting:
    """Paint the pattern as a heatmap with the focused query marked, its top keys listed below."""
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    queries, keys = (axis_labels(figure, axis, style_set.look.ascii) for axis in (0, 1))
    row = figure.axes[0].index(focus.position) if queries else None
    words = height >= 4 or height == 1
    grid = Grid(
        figure.values,
        queries,
        keys,
        (figure.axes[0].name, figure.axes[1].name),
        row,
        None,
        causal=True,
        offset=figure.axes[0].start - figure.axes[1].start,
        unit=figure.unit,
        signed=is_difference(figure),
        even=True,
        widest=WIDEST_CELL,
    )
    rows: tuple[Row, ...] = ()
    room = height - words
    painting = Painting(())
    if room:
        painting = paint_grid(grid, width, room, style_set)
        rows = painting.rows
    if words:
        rows = (*rows, strongest(figure, queries, keys, row, width, style_set))
    return replace(painting.placed(*figure.axes), rows=finish(rows, width, height, style_set.base))


def strongest(
    figure: Figure,
    queries: list[str],
    keys: list[str],
    row: int | None,
    width: int,
    style_set: Styles,
    *,
    who: str = "",
) -> Row:
    """Return a row like `·is → ·France .62  The .21`: as many keys as fit, the strongest first.

    Args:
        figure: the attention pattern [query, key].
        queries, keys: labels, as shown.
        row: index of the query; None returns an empty row.
        width: of the row, in cells.
        style_set: the styles.
        who: prefix that names the head; empty for none.
    """
    line = Line()
    if row is None:
        return line.row(width, style_set.base)
    glyphs = style_set.glyphs
    if who:
        line.add(f"{who} ", style_set.accent)
    line.add(f"{glyphs.mark}{queries[row]} {glyphs.arrow}", style_set.accent)
    values = figure.values[row]
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-np.abs(values[known]), kind="stable")][:MOST_KEYS]
    for key in order.tolist():
        value = float(values[key])
        is_share = figure.unit == "probability"
        text = signed_share(value) if is_share else number(value, 5)
        if value and not is_share and not text.strip("-0."):  # a small weight of a map
            text = significant(value)
        # Always list the first key; of the others those that fit and do not round to .00.
        full = line.width + cell_len(keys[key]) + len(text) + 3 > width
        if key != order[0] and (full or text.lstrip("-") == ".00"):
            break
        line.add(f" {keys[key]} ", style_set.base).add(f"{text} ", style_set.dim)
    return line.row(width, style_set.base)
