"""A window that follows the focus when not everything fits, and the minimap that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from llmscope.draw.cells import Line
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles


@dataclass(frozen=True)
class Window:
    """A range of `size` out of `count` rows or columns, beginning at `start`."""

    start: int
    size: int
    count: int

    @classmethod
    def around(cls, focus: int, count: int, room: int) -> Window:
        """Return the window that contains the focus.

        The window moves by half its size, so that a cursor step seldom moves the whole picture,
        and depends on the focus alone, so that the same focus always shows the same window.
        """
        size = max(0, min(count, room))
        if size == count or size == 0:
            return cls(0, size, count)
        half = max(1, size // 2)
        start = focus // half * half - (size - half) // 2
        return cls(max(0, min(start, count - size)), size, count)

    @classmethod
    def before(cls, stop: int, focus: int, count: int, room: int) -> Window:
        """Return the window that ends at `stop`, moved if necessary to contain the focus."""
        size = max(0, min(count, room))
        start = min(max(0, stop - size), max(focus, 0), count - size)
        return cls(start, size, count)

    @property
    def stop(self) -> int:
        """Return the first index after the window."""
        return self.start + self.size

    @property
    def partial(self) -> bool:
        """Return whether the window leaves something out."""
        return self.size < self.count

    def indices(self) -> range:
        """Return the indices inside the window."""
        return range(self.start, self.stop)

    def thumb(self, room: int) -> tuple[int, int]:
        """Return start and end of the minimap's thumb in `room` cells; at least one cell long.

        The thumb touches an end only if nothing is hidden there; rounding alone could hide that a
        single row is left out.
        """
        count, tight = max(self.count, 1), room < 3
        lowest = 0 if tight or not self.start else 1
        highest = room if tight or self.stop >= self.count else room - 1
        first = min(max(self.start * room // count, lowest), max(highest - 1, 0))
        last = max(first + 1, -(-self.stop * room // count))
        return first, min(last, highest)


def edge_row(window: Window, focus: int, indent: int, width: int, style_set: Styles) -> Row:
    """Draw the minimap `‹12 ───━━━━━────── 150›` with the number of hidden columns per side."""
    glyphs = style_set.glyphs
    line = Line().pad(min(indent, width), style_set.base)
    before, after = window.start, window.count - window.stop
    left = f"{glyphs.left}{before} " if before else ""
    right = f" {after}{glyphs.right}" if after else ""
    room = width - line.width - len(left) - len(right)
    line.add(left, style_set.dim)
    if room > 0:
        first, last = window.thumb(room)
        dot = min(max(focus * room // max(window.count, 1), first), last - 1)
        for cell in range(room):
            if cell == dot:
                line.add(glyphs.thumb, style_set.accent, 1)
            elif first <= cell < last:
                line.add(glyphs.thumb, style_set.dim, 1)
            else:
                line.add(glyphs.track, style_set.border, 1)
    line.add(right, style_set.dim)
    return line.row(width, style_set.base)
