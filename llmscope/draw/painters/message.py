"""Paint a message instead of a picture, such as the reason of a refused figure."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, plain_text, wrap
from llmscope.draw.painting import Canvas, Painting


def paint_message(text: str, canvas: Canvas) -> Painting:
    """Paint the text, wrapped and dim, centred in the available cells."""
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    lines = message_lines(text, width, ascii=style_set.look.ascii)
    above = max(0, (height - len(lines)) // 2)
    rows = [Line().row(width, style_set.base)] * above
    for text in lines:
        line = Line().pad(max(0, (width - cell_len(text)) // 2), style_set.base)
        rows.append(line.add(text, style_set.dim).row(width, style_set.base))
    return Painting(finish(rows, width, height, style_set.base))


def message_lines(text: str, width: int, *, ascii: bool) -> list[str]:  # noqa: A002
    """Wrap the text to lines that fit into `width` cells."""
    return wrap(plain_text(text, ascii), max(1, width - 2 if width > 8 else width))
