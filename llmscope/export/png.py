"""PNG: the SVG as pixels, where resvg is installed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from llmscope.draw import Look, Row
from llmscope.errors import ScopeError
from llmscope.export.svg import FONTS, svg_text

ZOOM = 2
"""Pixels of the PNG for one of the SVG."""


def png_bytes(rows: Sequence[Row], look: Look) -> bytes:
    """The rows as a PNG.

    Raises:
        ScopeError: resvg-py is not installed, or there is no font to draw letters with.
    """
    try:
        import resvg_py
    except ImportError:
        raise ScopeError("png needs resvg-py", "pip install resvg-py, or --format svg") from None
    if not _has_font(resvg_py):
        raise ScopeError("no monospace font is installed to draw a png with", "--format svg")
    return bytes(resvg_py.svg_to_bytes(svg_string=svg_text(rows, look), zoom=ZOOM))


@cache
def _has_font(resvg: Any) -> bool:
    """Without a font resvg leaves letters out and says nothing, so a letter is tried."""

    def drawn(text: str) -> bytes:
        return bytes(
            resvg.svg_to_bytes(
                svg_string='<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">'
                f'<text y="16" font-family="{FONTS}">{text}</text></svg>'
            )
        )

    return drawn("M") != drawn("")
