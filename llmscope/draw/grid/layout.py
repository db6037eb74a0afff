"""Where a grid's parts go in the room there is: gutter, columns, rows, head, foot and edges."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from llmscope.draw.grid.window import Window

STEPS = (12, 9, 7, 6, 5, 4, 3, 2, 1)
"""Widths that columns may have. A few fixed ones, so that typing a token seldom changes them."""

WORDS = 5
"""From this width on a cell shows its number or text; below it, colour or weight alone."""

FEWEST = 8
"""Blocks that there are at least, however small the room."""

TALLEST = 3
"""Rows in surplus make the rows of a small grid taller, up to this many cells."""

NARROWEST_TEXT = 7
"""Columns of words are left out rather than drawn narrower than this."""


@dataclass(frozen=True)
class Layout:
    """Sizes in cells.

    Attributes:
        gutter: width of the row labels, mark and blank included; 0: no room for them.
        cell: width of a column.
        tall: height of a row.
        columns, rows: what is in sight.
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
    """The layout of a grid of labelled rows.

    Args:
        labels: of the rows, as shown.
        columns: how many there are.
        focus: row and column that must be in sight.
        corner: what stands above the row labels.
        foot: label of the foot row; empty if there is none.
        cell: width of a column, if the caller decides.
        narrowest: columns are left out rather than drawn narrower than this.
        widest: columns are not drawn wider than this.
        causal: nothing stands to the right of the diagonal, so that the columns in sight are
            those up to the last row in sight.
        offset: if so, the column of the first row.
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
    tall = min(TALLEST, max(1, space // max(len(labels), 1)))
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
    """How many tokens a block holds so that all fit: a power of two, so that it seldom changes."""
    pool = 1
    while count > pool * max(cells, FEWEST):
        pool *= 2
    return pool
