"""SVG: the cells as a picture that needs no web font and no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import escape

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from llmscope.draw import RenderOptions, Row, Theme, styles_for
from llmscope.draw.color.arithmetic import mix, parse_hex, to_hex, xterm
from llmscope.export.json import json_text
from llmscope.export.page.colors import page_theme
from llmscope.export.svg_glyphs import shape
from llmscope.export.txt import harmless

FONT = 15
CELL = (9.0, 19.0)
"""Width and height of a cell in pixels. A monospace letter is 0.6 em wide; the size is in whole
pixels so that adjacent cells meet without a seam.
"""

BASELINE = 14.25
MARGIN = 10
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
OWN = "llmscope"
"""CSS class of an inline picture, which limits its styles to itself."""


@dataclass(frozen=True)
class Ink:
    """A style with resolved colours as `#rrggbb`; `background` is None for no background."""

    colour: str
    background: str | None
    attributes: str


def extent(rows: Sequence[Row]) -> tuple[float, float]:
    """Return width and height of the picture in pixels, including its margin."""
    width = max((sum(cell_len(s.text) for s in row) for row in rows), default=1) * CELL[0]
    return width + 2 * MARGIN, len(rows) * CELL[1] + 2 * MARGIN


def svg_text(
    rows: Sequence[Row],
    look: RenderOptions,
    provenance: Mapping[str, Any] | None = None,
    *,
    inline: bool = False,
    scale: float = 1.0,
) -> str:
    """Return the rows as an SVG document; of tier `none`, in black, white and greys.

    Args:
        rows: rows of cells.
        look: the render options the rows were drawn with.
        provenance: the origin of the numbers, stored in `<metadata>` as JSON; None omits it.
        inline: for a page with other pictures: limit the styles to this one, and its width to
            that of the page.
        scale: magnification of the picture.
    """
    theme, colours = page_theme(look), look.tier != "none"
    metadata = "" if provenance is None else escape(json_text(dict(provenance)).strip())
    full, size = ([f"{side * times:.1f}" for side in extent(rows)] for times in (1.0, scale))
    # The margin has the same colour as the cells, which the colour tier may have rounded.
    base = styles_for(look).base
    background = _ink(base if colours else base.without_color, theme).background
    background = background or theme.background
    body: list[str] = []
    for index, row in enumerate(rows):
        if not colours:
            row = tuple(
                Segment(segment.text, (segment.style or Style()).without_color) for segment in row
            )
        body.extend(_row(row, MARGIN + index * CELL[1], theme, background))
    within = f".{OWN} " if inline else ""
    fitting = f' class="{OWN}" style="max-width:100%;height:auto"' if inline else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" '
        f'viewBox="0 0 {full[0]} {full[1]}"{fitting}>\n'
        + (f"<metadata>{metadata}</metadata>\n" if metadata else "")
        + f"<style>{within}text{{font:{FONT}px {FONTS};white-space:pre}}"
        f"{within}rect{{shape-rendering:crispEdges}}"
        f"{within}.l{{fill:none;stroke:currentColor}}</style>\n"
        f'<rect width="{full[0]}" height="{full[1]}" rx="8" fill="{background}"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _row(row: Row, y: float, theme: Theme, background: str) -> Iterable[str]:
    """Yield the backgrounds before the text, so that none covers the letters beside it."""
    runs: list[tuple[float, str, int, Ink]] = []
    column = 0
    for segment in row:
        text = harmless(segment.text)
        length = cell_len(text)
        ink = _ink(segment.style or Style.null(), theme)
        x = MARGIN + column * CELL[0]
        if ink.background is not None and ink.background != background and length:
            yield (
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{length * CELL[0]:.1f}" '
                f'height="{CELL[1]:.1f}" fill="{ink.background}"/>'
            )
        if text.strip():
            runs.append((x, text, length, ink))
        column += length
    for x, text, _, ink in runs:
        inner = "".join(_pieces(text, x, y))
        yield f'<g fill="{ink.colour}" color="{ink.colour}"{ink.attributes}>{inner}</g>'


def _pieces(text: str, x: float, y: float) -> Iterable[str]:
    """Yield shapes for characters that fonts draw with gaps, and text of known length otherwise.

    Non-ASCII letters may come from another font with other widths, so each is placed separately.
    """
    plain = ""
    start = x
    for char in _clusters(text):
        width = cell_len(char) * CELL[0]
        drawn = shape(char, round(x, 2), y, *CELL) if len(char) == 1 else None
        if drawn is None and char.isascii():
            start = start if plain else x
            plain += char
        else:
            yield _text(plain, start, y)
            plain = ""
            yield drawn or _text(char, x, y)
        x += width
    yield _text(plain, start, y)


def _clusters(text: str) -> Iterable[str]:
    """Yield characters, each with the zero-width marks after it."""
    cluster = ""
    for char in text:
        if cluster and (char.isascii() or cell_len(char)):
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


def _text(text: str, x: float, y: float) -> str:
    stripped = text.strip(" ")
    if not stripped:
        return ""
    x += (len(text) - len(text.lstrip(" "))) * CELL[0]
    length = ""
    if len(stripped) > 1 and stripped.isascii():
        length = f' textLength="{len(stripped) * CELL[0]:.1f}"'
    valid = "".join(char if _xml(char) else "�" for char in stripped)
    return (
        f'<text x="{x:.1f}" y="{y + BASELINE:.1f}"{length} xml:space="preserve">'
        f"{escape(valid)}</text>"
    )


def _xml(char: str) -> bool:
    code = ord(char)
    return not 0xD800 <= code <= 0xDFFF and code not in (0xFFFE, 0xFFFF)


@lru_cache(maxsize=2048)
def _ink(style: Style, theme: Theme) -> Ink:
    colour = _hex(style.color, theme.text)
    background = _hex(style.bgcolor, "") or None
    if style.reverse:
        colour, background = background or theme.background, colour
    if style.dim:
        colour = to_hex(mix(parse_hex(colour), parse_hex(background or theme.background), 0.4))
    attributes = ' font-weight="bold"' if style.bold else ""
    attributes += ' font-style="italic"' if style.italic else ""
    lines = [n for n, on in (("underline", style.underline), ("line-through", style.strike)) if on]
    attributes += f' text-decoration="{" ".join(lines)}"' if lines else ""
    return Ink(colour, background, attributes)


def _hex(colour: Color | None, default: str) -> str:
    if colour is None or colour.is_default:
        return default
    if colour.triplet is not None:
        return colour.triplet.hex
    return to_hex(xterm(colour.number or 0))
