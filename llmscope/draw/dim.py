"""Dim an outdated picture while the new one is being computed."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from llmscope.draw.color import arithmetic
from llmscope.draw.painting import Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import styles_for

FADE = 0.5
"""How far each colour is mixed with the background, 0 to 1."""


def fade(painting: Painting, look: RenderOptions) -> Painting:
    """Return the painting with every style dimmed."""

    def dim(row: Row) -> Row:
        return tuple(Segment(s.text, _fade_style(s.style or Style(), look)) for s in row)

    legend = dim(painting.legend) if painting.legend else None
    return replace(painting, rows=tuple(map(dim, painting.rows)), legend=legend)


@lru_cache(maxsize=1024)
def _fade_style(style: Style, look: RenderOptions) -> Style:
    colours = styles_for(look)
    if not colours.colours:
        return style + Style(dim=True)
    background = arithmetic.parse_hex(look.theme.background)

    def towards(color: Color | None) -> Color | None:
        if color is None:
            return None
        rgb = color.get_truecolor() if color.triplet is None else color.triplet
        number = color.number
        plain = arithmetic.xterm(number) if number is not None else (rgb.red, rgb.green, rgb.blue)
        return colours.shade(arithmetic.mix(plain, background, FADE))

    return Style(color=towards(style.color), bgcolor=towards(style.bgcolor), bold=style.bold)
