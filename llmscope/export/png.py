"""PNG: the SVG rendered by resvg, if installed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from llmscope.draw import RenderOptions, Row
from llmscope.errors import ScopeError, option
from llmscope.export.json import json_text
from llmscope.export.svg import FONTS, extent, svg_text

ZOOM = 2
"""Pixels of the PNG per pixel of the SVG."""
MOST = 100_000_000
"""Maximum number of pixels of a PNG; each takes four bytes while drawing."""

KEYWORD = "llmscope"
"""Keyword of the text chunk with the provenance."""

_HEADER = 8 + 25
"""Bytes of the signature and of IHDR, which must come first."""


def png_bytes(
    rows: Sequence[Row],
    look: RenderOptions,
    provenance: Mapping[str, Any] | None = None,
    *,
    scale: float = 1.0,
) -> bytes:
    """Return the rows as a PNG.

    Args:
        rows: rows of cells.
        look: the render options the rows were drawn with.
        provenance: the origin of the numbers, stored in an iTXt chunk as JSON; None omits it.
        scale: factor on the number of pixels of each side.

    Raises:
        ScopeError: resvg-py is not installed, no monospace font is installed, or the PNG would
            have more than `MOST` pixels.
    """
    try:
        import resvg_py
    except ImportError:
        raise ScopeError(
            "png needs resvg-py", f"pip install resvg-py, or {option('format', 'svg')}"
        ) from None
    if not _has_font(resvg_py):
        raise ScopeError(
            "no monospace font is installed to draw a png with", option("format", "svg")
        )
    width, height = (side * scale * ZOOM for side in extent(rows))
    if width * height > MOST:
        raise ScopeError(
            f"the png would have {width:,.0f} x {height:,.0f} pixels",
            f"a smaller {option('scale')} or {option('size')}, or fewer figures",
        )
    drawing = svg_text(rows, look, scale=scale * ZOOM)
    data = bytes(resvg_py.svg_to_bytes(svg_string=drawing))
    if provenance is None:
        return data
    return data[:_HEADER] + _itxt(json_text(dict(provenance)).strip()) + data[_HEADER:]


def _itxt(text: str) -> bytes:
    """Return an iTXt chunk of uncompressed UTF-8 without language or translated keyword."""
    body = b"iTXt" + KEYWORD.encode("ascii") + b"\0" * 5 + text.encode("utf-8")
    return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


@cache
def _has_font(resvg: Any) -> bool:
    """Return whether resvg finds a font; without one it silently omits letters, so try a letter."""

    def drawn(text: str) -> bytes:
        return bytes(
            resvg.svg_to_bytes(
                svg_string='<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">'
                f'<text y="16" font-family="{FONTS}">{text}</text></svg>'
            )
        )

    return drawn("M") != drawn("")
