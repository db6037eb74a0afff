"""When there is more than fits: a window that follows the focus, and an edge that says so."""

from __future__ import annotations

from dataclasses import dataclass

from llmscope.draw.cells import Line
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles


@dataclass(frozen=True)
class Window:
    """`size` of `count` things, from `start` on."""

    start: int
    size: int
    count: int

    @classmethod
    def around(cls, focus: int, count: int, room: int) -> Window:
        """The window that holds the focus.

        It moves by half its size, so that a step of the cursor seldom moves the whole picture;
        and it depends on the focus alone, so that the same focus always shows the same.
        """
        size = max(0, min(count, room))
        if size == count or size == 0:
            return cls(0, size, count)
        half = max(1, size // 2)
        start = focus // half * half - (size - half) // 2
        return cls(max(0, min(start, count - size)), size, count)

    @classmethod
    def before(cls, stop: int, focus: int, count: int, room: int) -> Window:
        """The window that ends at `stop`, unless the focus would fall out of it."""
        size = max(0, min(count, room))
        start = min(max(0, stop - size), max(focus, 0), count - size)
        return cls(start, size, count)

    @property
    def stop(self) -> int:
        """The first index after the window."""
        return self.start + self.size

    @property
    def partial(self) -> bool:
        """Whether something is left out."""
        return self.size < self.count

    def indices(self) -> range:
        """What is inside."""
        return range(self.start, self.stop)

    def thumb(self, room: int) -> tuple[int, int]:
        """Where the minimap's thumb starts and ends in `room` cells; one cell at least.

        It touches an end only where nothing is out of sight there: one row of many would otherwise
        be rounded away.
        """
        count, tight = max(self.count, 1), room < 3
        lowest = 0 if tight or not self.start else 1
        highest = room if tight or self.stop >= self.count else room - 1
        first = min(max(self.start * room // count, lowest), max(highest - 1, 0))
        last = max(first + 1, -(-self.stop * room // count))
        return first, min(last, highest)


def edge_row(window: Window, focus: int, indent: int, width: int, palette: Styles) -> Row:
    """`‹12 ───━━━━━────── 150›`: how many are out of sight to the left and right, and where."""
    glyphs = palette.glyphs
    line = Line().pad(min(indent, width), palette.base)
    before, after = window.start, window.count - window.stop
    left = f"{glyphs.left}{before} " if before else ""
    right = f" {after}{glyphs.right}" if after else ""
    room = width - line.width - len(left) - len(right)
    line.add(left, palette.dim)
    if room > 0:
        first, last = window.thumb(room)
        dot = min(max(focus * room // max(window.count, 1), first), last - 1)
        for cell in range(room):
            if cell == dot:
                line.add(glyphs.thumb, palette.accent, 1)
            elif first <= cell < last:
                line.add(glyphs.thumb, palette.dim, 1)
            else:
                line.add(glyphs.track, palette.border, 1)
    line.add(right, palette.dim)
    return line.row(width, palette.base)
