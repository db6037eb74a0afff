"""Words where a picture would be: why there is none."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, plain_text, wrap
from llmscope.draw.painting import Painting
from llmscope.draw.palette import Palette


def paint_message(text: str, width: int, height: int, palette: Palette) -> Painting:
    """The text, wrapped and dim, in the middle of the room."""
    lines = wrap(plain_text(text, palette.look.ascii), max(1, width - 2 if width > 8 else width))
    above = max(0, (height - len(lines)) // 2)
    rows = [Line().row(width, palette.base)] * above
    for text in lines:
        line = Line().pad(max(0, (width - cell_len(text)) // 2), palette.base)
        rows.append(line.add(text, palette.dim).row(width, palette.base))
    return Painting(finish(rows, width, height, palette.base))
