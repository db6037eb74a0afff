"""Paint one number per head: layers down, heads across, the largest listed below."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from llmscope.draw.cells import Line, finish, plain_text
from llmscope.draw.grid.grid import paint_grid
from llmscope.draw.numbers import number, signed_share
from llmscope.draw.painters.generic import heatmap_grid
from llmscope.draw.painters.map import map_texts
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.styles import Styles
from llmscope.figure import Figure

WIDEST_CELL = 9
SMALL = 0.05
"""Probabilities below this are shown by colour only, so that the others stand out."""
MOST_HEADS = 12
"""Maximum number of heads that are listed."""


def paint_heads(figure: Figure, canvas: Canvas) -> Painting:
    """Paint a grid of layer and head; `extra["kinds"]`, one per layer, as a letter beside it."""
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    grid, texts = heatmap_grid(figure, canvas), map_texts(figure, style_set.look.ascii)
    grid = replace(
        grid,
        rows=texts.rows,
        note=texts.note,
        widest=WIDEST_CELL,
        even=True,
        # Other units use the grid's own numbers, aligned at the point.
        texts=grid.texts or (_shares(figure) if figure.unit == "probability" else None),
    )
    words = height >= 4
    painting = paint_grid(grid, width, height - words, style_set)
    if not words:
        return painting
    remark = _largest(figure, grid.row, grid.column, width, style_set)
    return replace(painting, rows=finish((*painting.rows, remark), width, height, style_set.base))


def _shares(figure: Figure) -> Callable[[int, int], str]:
    """Return a function for the text of a cell of probabilities, empty below `SMALL`."""

    def say(row: int, column: int) -> str:
        value = float(figure.values[row, column])
        telling = math.isfinite(value) and abs(value) >= SMALL
        return _brief(value, figure.unit) if telling else ""

    return say


def _brief(value: float, unit: str) -> str:
    """Format a probability with two decimals, `.93`; any other unit in at most six cells."""
    return signed_share(value) if unit == "probability" else number(value, 6)


def _largest(
    figure: Figure, row: int | None, column: int | None, width: int, style_set: Styles
) -> Row:
    """Draw `▸29.0 .02 · largest, by layer.head: 13.4 .98  3.0 .87`: as many heads as fit."""
    line, values, label = Line(), figure.values, "largest, by layer.head:"
    layers, heads = (
        [plain_text(label, style_set.look.ascii) for label in axis.labels] for axis in figure.axes
    )
    if row is not None and column is not None and np.isfinite(values[row, column]):
        line.add(f"{style_set.glyphs.mark}{layers[row]}.{heads[column]} ", style_set.accent)
        line.add(f"{_brief(float(values[row, column]), figure.unit)} ", style_set.dim)
        label = f"{style_set.glyphs.separator} {label}"
    order = np.argsort(-np.abs(np.nan_to_num(values)), axis=None, kind="stable")[:MOST_HEADS]
    for at in zip(*np.unravel_index(order, values.shape), strict=True):
        if not np.isfinite(values[at]):
            break
        name, value = f" {layers[at[0]]}.{heads[at[1]]} ", _brief(float(values[at]), figure.unit)
        if line.width + len(label) + len(name) + len(value) + 1 > width:
            break
        line.add(label, style_set.dim)
        label = ""
        line.add(name, style_set.base).add(f"{value} ", style_set.dim)
    return line.row(width, style_set.base)
