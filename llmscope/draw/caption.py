"""What a figure says of itself in words, on rows of its own below the picture."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, fit, plain_text, wrap
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import SIGNS
from llmscope.figure import Figure
from llmscope.text import VISIBLE, VISIBLE_ASCII

SHARE = 4
"""One row in so many, at most, is for words."""

# White space of tokens is made visible by who writes a caption, and may have to be in ASCII.
_IN_ASCII = str.maketrans(SIGNS | {VISIBLE[char]: VISIBLE_ASCII[char] for char in VISIBLE})


def caption_lines(figure: Figure, width: int, ascii: bool) -> list[str]:  # noqa: A002
    """The remarks of `extra["caption"]`, each from a line of its own on, broken at blanks."""
    return [line for remark in _remarks(figure, width, ascii) for line in remark]


def _remarks(figure: Figure, width: int, ascii: bool) -> list[list[str]]:  # noqa: A002
    remarks = [str(remark) for remark in figure.extra.get("caption", ())]
    if ascii:
        remarks = [remark.translate(_IN_ASCII) for remark in remarks]
    return [list(wrap(plain_text(remark, ascii), width)) for remark in remarks]


def caption_rows(figure: Figure, width: int, height: int, palette: Styles) -> tuple[Row, ...]:
    """As many of them, from the first, as a picture of so many cells can spare.

    A remark that goes on must not seem to end in the middle of what it lists.
    """
    room, lines = height // SHARE, list[str]()
    for remark in _remarks(figure, width, palette.look.ascii):
        taken = remark[: room - len(lines)]
        if taken and len(taken) < len(remark):
            cut = fit(taken[-1], min(cell_len(taken[-1]), max(0, width - 2)))
            taken[-1] = f"{cut} {palette.glyphs.ellipsis}"
        lines += taken
    return tuple(Line().add(line, palette.dim).row(width, palette.base) for line in lines)
