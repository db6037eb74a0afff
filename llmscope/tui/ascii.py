"""The last word where only ASCII is safe: every cell that leaves for the screen is made so."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_MARKS = {
    **dict.fromkeys("─━╌┄▔▁▂", "-"),
    **dict.fromkeys("│┃▎▏▊▌▐", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘", "+"),
    **dict.fromkeys("‹◂←❮", "<"),
    **dict.fromkeys("›▸→❯", ">"),
    **dict.fromkeys("·•", "."),
    "↑": "^",
    "↓": "v",
    "…": "~",
    "–": "-",
    "✓": "+",
    "✗": "x",
    "█": "#",
}


class AsciiOnly(LineFilter):
    """Puts an ASCII character, as wide, in the place of every other one."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments in ASCII."""
        return [
            Segment(part.text if part.text.isascii() else in_ascii(part.text), part.style, part[2])
            for part in segments
        ]


@lru_cache(maxsize=4096)
def in_ascii(text: str) -> str:
    """A text with look-alikes where there are any, and question marks, cell for cell."""
    return "".join(
        char if char.isascii() else _MARKS.get(char, "?" * cell_len(char)) for char in text
    )
