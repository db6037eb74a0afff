"""The screen below a dialog, in dimmed colours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.renderables.background_screen import BackgroundScreen

STYLES = 1024
"""Dimmed styles that are kept. A workspace in full colour at 200×60 has up to 182."""


class DimmedScreen(BackgroundScreen):
    """A screen dimmed as Textual does it, each style once.

    Textual mixes the colours of every segment anew each time it draws the screen, which it does
    three times for one dialog that opens.
    """

    @classmethod
    def process_segments(cls, segments: Iterable[Segment], color: Color) -> Iterable[Segment]:
        """Yield the segments in dimmed styles.

        Args:
            segments: what the screen shows.
            color: the colour laid over it, with its opacity.
        """
        for text, style, control in segments:
            yield Segment(text, style if control else _dim_style(style, color), control)


@lru_cache(STYLES)
def _dim_style(style: Style | None, color: Color) -> Style | None:
    """Return a style as seen through `color`. None is the style of plain text."""
    (segment,) = BackgroundScreen.process_segments([Segment("", style)], color)
    return segment.style
