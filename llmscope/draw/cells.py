"""Text in cells: fitting, padding, and rows that are exactly as wide as they should be."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from llmscope.draw.painting import Row
from llmscope.support.text import display_text

LONGEST_LABEL = 2000
"""Maximum number of characters drawn of a label; no row of a terminal or picture is longer."""


@lru_cache(maxsize=8192)
def token_text(label: str, ascii: bool) -> str:  # noqa: A002
    """Return a token as it is shown: white space visible, control characters escaped."""
    return display_text(label[:LONGEST_LABEL], whitespace=True, ascii=ascii)


@lru_cache(maxsize=8192)
def plain_text(label: str, ascii: bool) -> str:  # noqa: A002
    """Return any other untrusted text on one line, control characters escaped."""
    return display_text(" ".join(label[:LONGEST_LABEL].split("\n")), ascii=ascii, cells=True)


@lru_cache(maxsize=16384)
def fit(text: str, width: int, ellipsis: str = "", align: str = "left") -> str:
    """Pad or cut the text to exactly `width` cells (at least 0), ending a cut in `ellipsis`."""
    length = cell_len(text)
    if length == width:
        return text
    if length < width:
        gap = " " * (width - length)
        return gap + text if align == "right" else text + gap
    if width <= 1 and ellipsis:
        return ellipsis[:width]
    room = width - len(ellipsis)
    return set_cell_size(set_cell_size(text, room).rstrip(" ") + ellipsis, width)


class Line:
    """A row under construction: pieces of text, adjacent pieces of the same style merged."""

    __slots__ = ("parts", "width")

    def __init__(self) -> None:
        self.parts: list[tuple[str, Style]] = []
        self.width = 0

    def add(self, text: str, style: Style, width: int | None = None) -> Line:
        """Append text; `width` is its length in cells, None to measure it."""
        if text:
            parts = self.parts
            if parts and parts[-1][1] is style:
                parts[-1] = (parts[-1][0] + text, style)
            else:
                parts.append((text, style))
            self.width += cell_len(text) if width is None else width
        return self

    def pad(self, column: int, style: Style) -> Line:
        """Append blanks up to a column."""
        gap = column - self.width
        return self.add(" " * gap, style, gap) if gap > 0 else self

    def row(self, width: int, style: Style) -> Row:
        """Return the finished row, cut or padded to the width."""
        self.pad(width, style)
        segments = [Segment(text, style) for text, style in self.parts]
        if self.width != width:
            segments = Segment.adjust_line_length(segments, width, style=style)
        return tuple(segments)


def finish(rows: Iterable[Row], width: int, height: int, style: Style) -> tuple[Row, ...]:
    """Cut or pad the rows to exactly `height`."""
    first = list(rows)[:height]
    blank: Row = (Segment(" " * width, style),)
    return (*first, *(blank for _ in range(height - len(first))))


def wrap(text: str, width: int) -> list[str]:
    """Wrap the text to lines of at most `width` cells, at blanks where possible."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *heads, line = _cut(word, width)
        lines += heads
    return [*lines, line] if line else lines


def _cut(word: str, width: int) -> list[str]:
    """Cut a word into pieces as long as fit, of at least one character so that the loop ends."""
    pieces, start, end = list[str](), 0, 1
    while end < len(word):
        if cell_len(word[start : end + 1]) > width:
            pieces.append(word[start:end])
            start = end
        end += 1
    return [*pieces, word[start:]]
