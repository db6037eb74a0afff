"""What a figure says of itself in words, on rows of its own below the picture."""

from __future__ import annotations

from llmscope.draw.cells import OWN_SIGNS, Line, plain_text, wrap
from llmscope.draw.painting import Row
from llmscope.draw.palette import Palette
from llmscope.draw.signs import SIGNS
from llmscope.figure import Figure
from llmscope.text import VISIBLE, VISIBLE_ASCII

SHARE = 4
"""One row in so many, at most, is for words."""

# White space of tokens is made visible by who writes a caption, and may have to be in ASCII.
_IN_ASCII = str.maketrans(
    SIGNS | OWN_SIGNS | {VISIBLE[char]: VISIBLE_ASCII[char] for char in VISIBLE}
)


def caption_lines(figure: Figure, width: int, ascii: bool) -> list[str]:  # noqa: A002
    """The remarks of `extra["caption"]`, each from a line of its own on, broken at blanks."""
    remarks = [str(remark) for remark in figure.extra.get("caption", ())]
    if ascii:
        remarks = [remark.translate(_IN_ASCII) for remark in remarks]
    return [line for remark in remarks for line in wrap(plain_text(remark, ascii), width)]


def caption_rows(figure: Figure, width: int, height: int, palette: Palette) -> tuple[Row, ...]:
    """As many of them, from the first, as a picture of so many cells can spare."""
    lines = caption_lines(figure, width, palette.look.ascii)[: height // SHARE]
    return tuple(Line().add(line, palette.dim).row(width, palette.base) for line in lines)
