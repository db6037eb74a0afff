"""A list to choose from, grouped by headings. Only the visible rows are rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len, set_cell_size
from textual import events
from textual.content import Content
from textual.message import Message

from llmscope.support.text import display_text
from llmscope.tui.theme.hosted_widget import HostedWidget

MARK = "▸ "
ASIDE, GAP = 24, 2
"""Width in cells of the first right-hand column of a row, and of the gap left of it."""
SEEN = 2000
"""Maximum number of characters of a prompt to format: more never fit into a row or two."""
NARROW = 60
"""Minimum width in cells at which both right-hand columns are shown."""


@dataclass(frozen=True)
class ListEntry:
    """One entry of the list.

    Attributes:
        heading: the heading it is listed under; entries of one heading are adjacent.
        text: the value that is chosen.
        label: the text of its row.
        about: an explanation of the entry; may be empty.
        aside: the two right-hand columns of its row, dim.
    """

    heading: str
    text: str
    label: str
    about: str = ""
    aside: tuple[str, str] = ("", "")

    @cached_property
    def haystack(self) -> str:
        """The text that a search looks in, case-folded."""
        return "\n".join({self.label, self.text, self.about, self.aside[0]}).casefold()


class Choices(HostedWidget):
    """The list widget, with one row selected.

    Attributes:
        found: the entries to choose from.
        at: the index of the selected entry.
        nothing: what stands in place of an empty list.
    """

    nothing = "nothing holds all of these words"

    class Taken(Message):
        """Posted when a row is clicked."""

        def __init__(self, choice: ListEntry) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self) -> None:
        super().__init__(id="choices")
        self.found: Sequence[ListEntry] = ()
        self._words: tuple[str, ...] = ()
        self.at = self._top = 0

    @property
    def chosen(self) -> ListEntry | None:
        """The selected entry; None if the list is empty."""
        return self.found[self.at] if self.found else None

    def show(self, choices: Sequence[ListEntry], words: Sequence[str] = ()) -> None:
        """List `found`, with `words` highlighted; select the first entry if the list changed."""
        self._words = tuple(words)
        if list(choices) != list(self.found):
            self.found, self.at, self._top = choices, 0, 0
        self.refresh()

    def move(self, by: int) -> None:
        """Move the selection down by `by` entries."""
        self.at = max(0, min(self.at + by, len(self.found) - 1))
        self.refresh()

    def lines(self) -> list[int | str]:
        """Return all rows: the index of an entry, or a heading."""
        rows: list[int | str] = []
        before = ""
        for index, choice in enumerate(self.found):
            if choice.heading != before:
                rows.append(choice.heading)
                before = choice.heading
            rows.append(index)
        return rows

    def in_sight(self) -> list[int | str]:
        """Scroll to the selected entry and return the rows that fit."""
        rows, height = self.lines(), max(1, self.size.height)
        if not rows:
            return []
        place = rows.index(self.at)
        # Show the heading together with its first entry.
        first = place - 1 if isinstance(rows[place - 1], str) and height > 1 else place
        self._top = max(min(self._top, first), place - height + 1)
        self._top = max(0, min(self._top, len(rows) - height))
        return rows[self._top : self._top + height]

    def render(self) -> Content:
        """Render the visible rows."""
        if not self.found:
            return Content.styled(self.nothing, self.text_styles.dim)
        return Content("\n").join(
            Content.styled(row, self.text_styles.dim) if isinstance(row, str) else self._row(row)
            for row in self.in_sight()
        )

    def _row(self, index: int) -> Content:
        choice, here = self.found[index], index == self.at
        width, text_styles = self.size.width, self.text_styles
        first, second = choice.aside
        aside = f"{fit_width(first, ASIDE)}{second:>8}" if width >= NARROW else f"{second:>8}"
        if not (first or second):
            aside = ""
        room = max(1, width - len(MARK) - (cell_len(aside) + GAP if aside else 0))
        label = Content.styled(
            fit_width(choice.label, room), text_styles.strong if here else text_styles.text
        )
        for start, end in spans(label.plain, self._words):
            label = label.stylize(text_styles.accent, start, end)
        mark = (MARK if here else " " * len(MARK), text_styles.accent)
        return Content.assemble(mark, label, (f"{'  ' if aside else ''}{aside}", text_styles.dim))

    def on_click(self, event: events.Click) -> None:
        """Post `Taken` for the row under the mouse."""
        event.stop()
        rows, y = self.in_sight(), event.y
        row = rows[y] if 0 <= y < len(rows) else ""
        if not isinstance(row, str):
            self.post_message(self.Taken(self.found[row]))

    def on_mouse_scroll_down(self) -> None:
        """Select the next entry."""
        self.move(1)

    def on_mouse_scroll_up(self) -> None:
        """Select the previous entry."""
        self.move(-1)


def whole(text: str) -> str:
    """Return a text on one line, with control characters escaped."""
    return display_text(text[:SEEN], cells=True).replace("\n", "↵")


def fit_width(text: str, width: int) -> str:
    """Pad or truncate a text to exactly `width` cells."""
    line = whole(text)
    if cell_len(line) > width or len(text) > SEEN:
        return set_cell_size(line, width - 1) + "…"
    return set_cell_size(line, width)


def spans(line: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return the span of each word's first match in `shown`; words without a match have none."""
    folded = line.casefold()
    if len(folded) != len(line):
        return []
    places = [(folded.find(word.casefold()), len(word.casefold())) for word in words]
    return [(start, start + length) for start, length in places if start >= 0]
