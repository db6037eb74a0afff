"""The size of pictures that fit their content: `--size auto`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len

from llmscope.draw import RenderOptions, natural_height
from llmscope.draw.figures import paint
from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus

WIDTH, TALLEST = 100, 30
"""Width of a figure in cells that takes any, and height of one that takes any."""
NARROWEST, WIDEST, HIGHEST = 40, 300, 120
"""Limits of what a figure's content may ask for."""
MOST_CELLS = 100_000
"""Cells of a picture beyond which its figures have the size that they have on a terminal."""
STARRED = 7
"""Width of a column in which a number of five cells has room for a star."""
FRAME = 4
"""Cells of the frame beside the content."""
BESIDE_TITLE = 26
"""Cells that the upper border needs beside the title, with a verdict that has no reason."""


def sizes(
    figures: Sequence[Figure], look: RenderOptions, focus: Focus | None, tokens: Figure | None
) -> tuple[int, list[int]]:
    """Return the width in cells of figures below each other, and the height of each.

    Args:
        figures: the figures.
        look: the render options.
        focus: the indices to mark.
        tokens: figure of the lens `tokens` for the rows around a map; None leaves them out.
    """
    width = fitted_width(figures, look, focus, tokens)
    heights = [fitted_height(figure, width) for figure in figures]
    if width * sum(heights) > MOST_CELLS:
        return WIDTH, [usual_height(figure) for figure in figures]
    return width, heights


def usual_height(figure: Figure) -> int:
    """Return the height of a figure of the usual width, in cells, of at most `TALLEST`."""
    return min(fitted_height(figure, WIDTH), TALLEST)


def fitted_width(
    figures: Sequence[Figure], look: RenderOptions, focus: Focus | None, tokens: Figure | None
) -> int:
    """Return one width for several figures, in cells, in which each shows all its columns.

    Maps and tables take what their columns need, up to `WIDEST`, where numbers with stars need
    `STARRED` cells; all other figures take `WIDTH`.
    """
    return max((_width(figure, look, focus, tokens) for figure in figures), default=WIDTH)


def fitted_height(figure: Figure, width: int) -> int:
    """Return the height in cells, with the frame, in which a figure shows all its rows."""
    natural = natural_height(figure, width - FRAME)
    return TALLEST if natural is None else min(natural + 2, HIGHEST)


def _width(figure: Figure, look: RenderOptions, focus: Focus | None, tokens: Figure | None) -> int:
    if figure.kind not in ("heatmap", "table") or len(figure.axes) != 2 or not figure.values.size:
        return WIDTH
    if figure.verdict.status == "refused":
        return WIDTH
    width = WIDTH - FRAME

    def painted() -> Painting:
        height = fitted_height(figure, width + FRAME) - 2
        return paint(figure, width, height, look, focus, tokens=tokens)

    painting = painted()
    if figure.kind == "table" and _whole(painting, figure):
        return WIDTH
    while not _whole(painting, figure) and width < WIDEST - FRAME:
        width = min(2 * width, WIDEST - FRAME)
        painting = painted()
    legend = "".join(part.text for part in painting.legend or ())
    narrowest = max(
        NARROWEST,
        min(cell_len(figure.title) + BESIDE_TITLE + cell_len(figure.verdict.reason), WIDTH),
        cell_len(legend) + FRAME + 2,
    )
    return min(max(_used_columns(painting) + FRAME, narrowest), width + FRAME)


def _whole(painting: Painting, figure: Figure) -> bool:
    """Return whether a picture shows all columns, and its stars; True if it has no columns."""
    name = figure.axes[-1].name
    cells = Counter(index for axis, index in painting.across.values() if axis == name)
    starred = "marked" in figure.extra
    return not cells or (
        len(cells) >= len(figure.axes[-1]) and (not starred or min(cells.values()) >= STARRED)
    )


def _used_columns(painting: Painting) -> int:
    """Return how many columns of cells hold anything; one that is marked or coloured counts."""
    last = max(painting.across, default=-1) + 1  # a column ends in a blank
    for row in painting.rows:
        end = column = 0
        background = row[-1].style.bgcolor if row and row[-1].style else None
        for part in row:
            text = part.text
            ground = part.style.bgcolor if part.style else None
            reverse = bool(part.style and part.style.reverse)
            if ground != background or reverse:
                end = column + cell_len(text)
            elif text.strip():
                end = column + cell_len(text.rstrip())
            column += cell_len(text)
        last = max(last, end)
    return last
