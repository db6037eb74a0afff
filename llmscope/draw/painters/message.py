"""Paint a message instead of a picture, such as the reason of a refused figure."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, plain_text, wrap
from llmscope.draw.painting import Painting
from llmscope.draw.styles import Styles


def paint_message(text: str, width: int, height: int, palette: Styles) -> Painting:
    """Paint the text, wrapped and dim, centred in the available cells."""
    lines = message_lines(text, width, ascii=palette.look.ascii)
    above = max(0, (height - len(lines)) // 2)
    rows = [Line().row(width, palette.base)] * above
    for text in lines:
        line = Line().pad(max(0, (width - cell_len(text)) // 2), palette.base)
        rows.append(line.add(text, palette.dim).row(width, palette.base))
    return Painting(finish(rows, width, height, palette.base))


def message_lines(text: str, width: int, *, ascii: bool) -> list[str]:  # noqa: A002
    """Wrap the text to lines that fit into `width` cells."""
    return wrap(plain_text(text, ascii), max(1, width - 2 if width > 8 else width))
