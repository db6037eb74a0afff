"""The prompt as the editor holds it: exact, whatever is in it, and harmless on the screen."""

from __future__ import annotations

from functools import lru_cache
from typing import overload

from textual.document._document import Document, EditResult, Location

from llmscope.text import display_text

_STAND_IN = "\ufffd"


@lru_cache(maxsize=256)
def stand_ins(line: str) -> str:
    """A line of the prompt with one visible character for each hidden one.

    As many characters as before, so that every index stands; tabs stay for the editor to expand.
    """
    if line.isascii() and line.isprintable():
        return line
    shown = []
    for index, char in enumerate(line):
        before = line[index - 1] if index else ""
        base = before if before.isprintable() else ""
        if char == "\t" or display_text(base + char) == base + char:
            shown.append(char)
        elif ord(char) < 0x20:
            shown.append(chr(0x2400 + ord(char)))
        else:
            shown.append("\u2421" if char == "\x7f" else _STAND_IN)
    return "".join(shown)


class PromptDocument(Document):
    """A document whose only line end is the newline, so that no character of a prompt is lost.

    Reading a line, for drawing, wrapping and moving, gives its stand-ins; the text is the original.
    """

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._lines = text.split("\n")

    @property
    def lines(self) -> list[str]:
        """The lines as they are shown."""
        return [stand_ins(line) for line in self._lines]

    @overload
    def __getitem__(self, line_index: int) -> str: ...

    @overload
    def __getitem__(self, line_index: slice) -> list[str]: ...

    def __getitem__(self, line_index: int | slice) -> str | list[str]:
        found = self._lines[line_index]
        return stand_ins(found) if isinstance(found, str) else [stand_ins(line) for line in found]

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Put text in the place of a range, which may be empty."""
        (top_row, top_column), (bottom_row, bottom_column) = sorted((start, end))
        replaced = self.get_text_range(start, end)
        lines = self._lines
        before, after = lines[top_row][:top_column], lines[bottom_row][bottom_column:]
        inserted = (before + text).split("\n")
        end_location = (top_row + len(inserted) - 1, len(inserted[-1]))
        inserted[-1] += after
        lines[top_row : bottom_row + 1] = inserted
        return EditResult(end_location, replaced)
