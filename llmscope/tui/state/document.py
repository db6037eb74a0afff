"""The prompt as the editor holds it: exact in any case, and safe to show on the screen."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import overload

from textual.document._document import Document, EditResult, Location

from llmscope.support.text import DOTTED_CIRCLE, forms

_STAND_IN = "\ufffd"
_BLANK = "\u2423"


@lru_cache(maxsize=256)
def stand_ins(line: str) -> str:
    """Return a line of the prompt with a visible character for each hidden one.

    The number of characters stays, so that every index still holds, and each is equally wide in
    every terminal; tabs stay for the editor to expand.
    """
    if line.isascii() and line.isprintable():
        return line
    return "".join(map(_stand_in, line, forms(line, cells=True)))


def _stand_in(char: str, form: str) -> str:
    """Return a character of certain width; for a combining mark or vowel sign a dotted circle.

    A misplaced cursor or a broken border is worse than a vowel sign that is not drawn: the tokens
    below name it.
    """
    if char in (form, "\t"):
        return char
    if ord(char) < 0x20:
        return chr(0x2400 + ord(char))
    if char == "\x7f":
        return "\u2421"
    category = unicodedata.category(char)
    if category == "Zs":
        return _BLANK
    # A character that `forms` spells with other letters counts as a vowel sign too.
    return DOTTED_CIRCLE if category[0] == "M" or form[0] != "\\" else _STAND_IN


class PromptDocument(Document):
    """A document whose only line end is the newline, so that no character of a prompt is lost.

    Its lines, as used for drawing, wrapping and moving, are stand-ins; `text` is the original.
    """

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._lines = text.split("\n")

    @property
    def lines(self) -> list[str]:
        """Return the lines as they are shown."""
        return [stand_ins(line) for line in self._lines]

    @overload
    def __getitem__(self, line_index: int) -> str: ...

    @overload
    def __getitem__(self, line_index: slice) -> list[str]: ...

    def __getitem__(self, line_index: int | slice) -> str | list[str]:
        line = self._lines[line_index]
        return (
            stand_ins(line) if isinstance(line, str) else [stand_ins(one_line) for one_line in line]
        )

    def holds(self, text: str, start: Location) -> bool:
        """Return whether `text` is at `start`, which need not be inside this document."""
        (row, column), end = start, end_of(start, text)
        inside = 0 <= row <= end[0] < len(self._lines) and 0 <= column <= len(self._lines[row])
        return inside and self.get_text_range(start, end) == text

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Replace a range, which may be empty, by a text."""
        (top_row, top_column), (bottom_row, bottom_column) = sorted((start, end))
        replaced = self.get_text_range(start, end)
        lines = self._lines
        before = lines[top_row][:top_column]
        # A cut of the last line ends on the line after it, which does not exist.
        after = lines[bottom_row][bottom_column:] if bottom_row < len(lines) else ""
        lines[top_row : bottom_row + 1] = (before + text + after).split("\n")
        return EditResult(end_of((top_row, top_column), text), replaced)


def end_of(start: Location, text: str) -> Location:
    """Return where `text` ends if it begins at `start`."""
    row, column = start
    lines = text.split("\n")
    return row + len(lines) - 1, len(lines[-1]) + (column if len(lines) == 1 else 0)
