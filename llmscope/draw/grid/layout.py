"""Fit the parts of a grid into the available cells: gutter, columns, rows, head, foot, edges."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from llmscope.draw.grid.window import Window

STEPS = (12, 9, 7, 6, 5, 4, 3, 2, 1)
"""Possible column widths; only a few, so that typing a token seldom changes the width."""

WORDS = 5
"""Minimum width of a cell that shows its number or text; below it, colour or weight alone."""

FEWEST = 8
"""Minimum number of blocks of pooled tokens, however few cells there are."""

TALLEST_ROW = 3
"""Maximum height of a row in cells; rows of a small grid grow to fill the height."""

NARROWEST_TEXT = 7
"""Minimum width of a column of words; columns are left out rather than drawn narrower."""


@dataclass(frozen=True)
class Layout:
    """Sizes in cells.

    Attributes:
        gutter: width of the row labels, mark and blank included; 0 if they do not fit.
        cell: width of a column.
        tall: height of a row.
        columns, rows: the visible ones.
        head, foot: whether the column labels and the foot row are drawn.
        side, bottom: whether the vertical and the horizontal minimap are drawn.
    """

    gutter: int
    cell: int
    tall: int
    columns: Window
    rows: Window
    head: bool
    foot: bool
    side: bool
    bottom: bool


def lay_out(
    width: int,
    height: int,
    labels: list[str],
    columns: int,
    focus: tuple[int, int],
    *,
    corner: str = "",
    foot: str = "",
    cell: int | None = None,
    narrowest: int = 1,
    widest: int = STEPS[0],
    causal: bool = False,
    offset: int = 0,
) -> Layout:
    """Lay out a grid of labelled rows.

    Args:
        width, height: the available cells.
        labels: of the rows, as shown.
        columns: the number of columns.
        focus: row and column that must be visible.
        corner: text above the row labels.
        foot: label of the foot row; empty for no foot row.
        cell: width of a column; None fits it to the available width.
        narrowest: columns are left out rather than drawn narrower than this.
        widest: columns are not drawn wider than this.
        causal: cells to the right of the diagonal are empty, so the visible columns are those up
            to the last visible row.
        offset: the column of the first row, if `causal`.
    """
    wide = max((cell_len(label) for label in (*labels, corner, foot)), default=0) + 2
    gutter = min(wide, 14, width // 3)
    gutter = gutter if gutter >= 3 else 0
    head = height >= 3
    footed = bool(foot) and height >= 5
    side = width - gutter >= 8 and len(labels) > height - head - footed
    room = max(1, width - gutter - side)
    chosen = cell or _cell(room, columns, narrowest, widest)
    across = Window.around(focus[1], columns, max(1, room // chosen))
    bottom = across.partial and height >= 6
    space = max(1, height - head - footed - bottom)
    if not side and width - gutter >= 8 and len(labels) > space:
        side = True
        across = Window.around(focus[1], columns, max(1, (room - 1) // chosen))
    tall = min(TALLEST_ROW, max(1, space // max(len(labels), 1)))
    down = Window.around(focus[0], len(labels), max(1, space // tall))
    if causal and across.partial:
        across = Window.before(down.stop + offset, focus[1], columns, across.size)
    return Layout(gutter, chosen, tall, across, down, head, footed, side, bottom)


def _cell(room: int, columns: int, narrowest: int, widest: int) -> int:
    for step in STEPS:
        if step <= widest and step * columns <= room:
            return max(step, min(narrowest, room))
    return max(1, min(narrowest, room))


def pool_for(count: int, cells: int) -> int:
    """Return how many tokens to pool per block so that all fit: a power of two, to be stable."""
    pool = 1
    while count > pool * max(cells, FEWEST):
        pool *= 2
    return pool
