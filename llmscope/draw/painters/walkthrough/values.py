"""Paint the values of a walkthrough step, or of a weight, with a cursor on one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llmscope.draw.grid.grid import paint_grid
from llmscope.draw.painters.generic import heatmap_grid
from llmscope.draw.painters.walkthrough.value import cell_said
from llmscope.draw.painting import Canvas, Painting
from llmscope.figure import Figure, Focus


def visible_cell(figure: Figure, cell: tuple[int, int]) -> tuple[int | None, int | None]:
    """Map a cell of the whole matrix to row and column of the picture; None where not visible."""
    extra = figure.extra
    row, column = (
        at - here + seen
        for at, here, seen in zip(cell, extra["cell"]["at"], extra["seen"], strict=True)
    )
    ids = extra.get("ids")
    if ids is not None:  # columns are tokens sorted by value
        column = next((at for at, token in enumerate(ids) if token == cell[1]), -1)
    rows, columns = figure.values.shape
    return (row if 0 <= row < rows else None), (column if 0 <= column < columns else None)


def cell_at(figure: Figure, row: int, column: int) -> tuple[int, int]:
    """Map row and column of the picture to the cell of the whole matrix."""
    extra = figure.extra
    (down, across), (top, left) = extra["cell"]["at"], extra["seen"]
    ids = extra.get("ids")
    return (
        row + down - top,
        column + across - left if ids is None else int(ids[column]),
    )


def describe_cell(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the value under the cursor, and its meaning."""
    yield cell_said(figure, False)


def paint_values(figure: Figure, canvas: Canvas) -> Painting:
    """Paint the grid of values; clicks give the axes `row` and `column` of the picture."""
    assert canvas.focus.cell is not None
    row, column = visible_cell(figure, canvas.focus.cell)
    grid = heatmap_grid(figure, canvas)
    grid = replace(grid, row=row, column=column, axes=("row", "column"))
    return paint_grid(grid, canvas.width, canvas.height, canvas.styles)
