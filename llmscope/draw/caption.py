"""The caption of a figure: rows of text below the picture."""

from __future__ import annotations

from rich.cells import cell_len

from llmscope.draw.cells import Line, fit, wrap
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import quoting_text
from llmscope.figure import Figure

SHARE = 4
"""The caption may use one in this many rows of those that the picture needs."""


def caption_lines(figure: Figure, width: int, ascii: bool) -> list[str]:  # noqa: A002
    """Return the lines of `extra["caption"]`, each remark on a new line, wrapped at blanks."""
    return [line for remark in _remarks(figure, width, ascii) for line in remark]


def _remarks(figure: Figure, width: int, ascii: bool) -> list[list[str]]:  # noqa: A002
    remarks = figure.extra.get("caption", ())
    return [list(wrap(quoting_text(str(remark), ascii), width)) for remark in remarks]


def caption_rows(
    figure: Figure, width: int, height: int, style_set: Styles, free: int = 0
) -> tuple[Row, ...]:
    """Return the first caption rows: at most 1 / `SHARE` of `height`, or the `free` ones if more.

    A remark that is cut off ends in an ellipsis.

    Args:
        figure: the figure.
        width, height: the size in cells of picture and caption together.
        style_set: the styles.
        free: the rows that the picture cannot use.
    """
    room, lines = max(height // SHARE, free), list[str]()
    for remark in _remarks(figure, width, style_set.look.ascii):
        first = remark[: room - len(lines)]
        if first and len(first) < len(remark):
            cut = fit(first[-1], min(cell_len(first[-1]), max(0, width - 2)))
            first[-1] = f"{cut} {style_set.glyphs.ellipsis}"
        lines += first
    return tuple(Line().add(line, style_set.dim).row(width, style_set.base) for line in lines)
