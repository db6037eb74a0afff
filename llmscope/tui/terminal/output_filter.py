"""Filters for output that the terminal cannot show: colours and characters."""

from __future__ import annotations

import re
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter, NoColor

from llmscope.draw import RenderOptions
from llmscope.draw.styles import shade
from llmscope.support.text import VISIBLE, VISIBLE_ASCII
from llmscope.tui.theme.textual_theme import variables

_MARKS = {
    **dict.fromkeys("─╌┄▔▁▂", "-"),
    "━": "=",
    **dict.fromkeys("│┃▏▎▍▌▋▊▉▐", "|"),
    **dict.fromkeys("▃▄▅▆▇█", "#"),
    **dict.fromkeys("╭╮╰╯┌┐└┘", "+"),
    **dict.fromkeys("‹◂←❮", "<"),
    **dict.fromkeys("›▸→❯", ">"),
    **dict.fromkeys("·•", "."),
    "↑": "^",
    "↓": "v",
    "…": "~",
    **dict.fromkeys("–−", "-"),
    "‖": "|",
    "✓": "+",
    **dict.fromkeys("✗×", "x"),
}
_SPACE_MARK = re.compile(rf"{VISIBLE[' ']}(?=\S)|(?<=\S){VISIBLE[' ']}")
GREYS = (0, 7, 8, 15)
"""Those of the sixteen colours that may be the terminal's own background."""


def filters(look: RenderOptions) -> list[LineFilter]:
    """Return the filters for render options; full colour and Unicode need no filter."""
    chosen: list[LineFilter] = []
    if look.tier == "none":
        chosen.append(NoColor())
    elif look.tier != "truecolor":
        chosen.append(FewColours(look))
    if look.ascii:
        chosen.append(AsciiOnly())
    return chosen


class AsciiOnly(LineFilter):
    """Replaces every other character by an ASCII character of the same width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in ASCII."""
        return [
            Segment(part.text if part.text.isascii() else in_ascii(part.text), part.style, part[2])
            for part in segments
        ]


@lru_cache(maxsize=4096)
def in_ascii(text: str) -> str:
    """Return a text with ASCII look-alikes, else question marks, of the same width.

    The mark of a space is that of figures; between words the same sign separates remarks.
    """
    text = _SPACE_MARK.sub(VISIBLE_ASCII[" "], text)
    return "".join(
        char if char.isascii() else _MARKS.get(char, "?" * cell_len(char)) for char in text
    )


class FewColours(LineFilter):
    """Gives every 24-bit colour of the interface the shade that figures have in its place.

    Textual would round it differently, and every pane would have a background of its own. In
    sixteen colours the background is the terminal's own, which is not always black.
    """

    def __init__(self, look: RenderOptions) -> None:
        super().__init__()
        chrome = variables(look.theme)
        self._tier = look.tier
        self._sixteen = look.tier == "16"
        self._grounds = {
            chrome[name] for name in ("figure-background", "pane", "token-even", "token-odd")
        }
        self._plain = {chrome[name]: True for name in ("frame", "dim", "line")}
        self._plain[chrome["ink"]] = False
        self._style = lru_cache(maxsize=1024)(self._shown)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in the colours of the render options."""
        return [
            Segment(part.text, self._style(part.style), part[2]) if part.style else part
            for part in segments
        ]

    def _shown(self, style: Style) -> Style:
        ink, faint = self._ink(style.color)
        background = self._ground(style.bgcolor)
        if self._sixteen and background is not None and not background.is_default:
            if background.number in GREYS or ink is None or ink.is_default:
                # The terminal's own foreground has unknown contrast except on its own background.
                return style.without_color + Style(reverse=True)
        elif self._sixteen and ink is not None and ink is not style.color and ink.number in GREYS:
            ink, faint = RichColor.default(), True
        return style.without_color + Style(color=ink, bgcolor=background, dim=faint or None)

    def _ink(self, colour: RichColor | None) -> tuple[RichColor | None, bool]:
        if colour is None or colour.triplet is None:
            return colour, False
        if self._sixteen and colour.triplet.hex in self._plain:
            return RichColor.default(), self._plain[colour.triplet.hex]
        return shade((*colour.triplet,), self._tier), False

    def _ground(self, colour: RichColor | None) -> RichColor | None:
        if colour is None or colour.triplet is None:
            return colour
        if self._sixteen and colour.triplet.hex in self._grounds:
            return RichColor.default()
        return shade((*colour.triplet,), self._tier)
