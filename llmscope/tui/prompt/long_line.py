"""Lines of the prompt that are wrapped to thousands of rows, of which few are visible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich.containers import Lines
from rich.text import Text
from textual.document._wrapped_document import WrappedDocument


class PromptWrap(WrappedDocument):
    """The wrapped rows of a prompt."""

    def get_sections(self, line_index: int) -> list[str]:
        """Return the rows of a line, cut out of its text without styles."""
        line = self.document.get_line(line_index)
        bounds = [0, *self.get_offsets(line_index), len(line)]
        return [line[start:end] for start, end in pairwise(bounds)]


class LongLine(Text):
    """Text whose `divide` makes only the sections that are read.

    The text area divides a whole line for each of its rows, and draws one section: for a line of a
    megabyte that took seconds for each letter.

    Attributes:
        rows: where the text area wraps the line; dividing it at these offsets is cheap.
    """

    rows: Iterable[int] = ()

    def divide(self, offsets: Iterable[int]) -> Lines:
        """Return the sections between the offsets; those of rows are made when they are read."""
        if not offsets or offsets is not self.rows:
            return super().divide(offsets)
        sections: Any = _Sections(self, [0, *offsets, len(self)])
        return sections  # type: ignore[no-any-return]

    def section(self, start: int, end: int) -> Text:
        """Return the text from `start` to before `end`, with its styles."""
        return Text.divide(self, [start, end])[1]

    def copy(self) -> LongLine:
        """Return a copy of the same class."""
        copied = LongLine(self.plain, self.style, end=self.end, no_wrap=self.no_wrap)
        copied._spans[:] = self._spans
        copied.rows = self.rows
        return copied


@dataclass(frozen=True)
class _Plain:
    plain: str


class _Sections:
    """The sections of a line: the first one read has styles, the others are plain text."""

    def __init__(self, line: LongLine, bounds: list[int]) -> None:
        self._line, self._bounds, self._plain = line, bounds, line.plain
        self._drawn: int | None = None

    def __getitem__(self, index: int) -> Text | _Plain:
        start, end = self._bounds[index], self._bounds[index + 1]
        if self._drawn in (None, index):
            self._drawn = index
            return self._line.section(start, end)
        return _Plain(self._plain[start:end])
