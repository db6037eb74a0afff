"""Draw block elements, lines and Braille as SVG shapes, without gaps and independent of fonts."""

from __future__ import annotations

from functools import lru_cache

_SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}

# The arms of each line: left, right, up, down; and its weight in units of a thin line.
_LINES = {
    "─": ("lr", 1),
    "│": ("ud", 1),
    "━": ("lr", 2.5),
    "┃": ("ud", 2.5),
    "┌": ("rd", 1),
    "┐": ("ld", 1),
    "└": ("ru", 1),
    "┘": ("lu", 1),
    "├": ("rud", 1),
    "┤": ("lud", 1),
    "┬": ("lrd", 1),
    "┴": ("lru", 1),
    "┼": ("lrud", 1),
    "╭": ("rd", 1),
    "╮": ("ld", 1),
    "╰": ("ru", 1),
    "╯": ("lu", 1),
}
_ROUND = frozenset("╭╮╰╯")
_PARTS = {
    "▀": (0, 0, 1, 0.5),
    "▔": (0, 0, 1, 0.125),
    "▐": (0.5, 0, 0.5, 1),
    "▕": (0.875, 0, 0.125, 1),
}
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of each Braille dot, in the order of the bits."""


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _rect(x: float, y: float, width: float, height: float, more: str = "") -> str:
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"{more}/>'


@lru_cache(maxsize=8192)
def shape(char: str, x: float, y: float, width: float, height: float) -> str | None:
    """Return markup for one cell, without a fill colour; None if a font must draw the character."""
    code = ord(char)
    if 0x2581 <= code <= 0x2588:
        part = height * (code - 0x2580) / 8
        return _rect(x, y + height - part, width, part)
    if 0x2589 <= code <= 0x258F:
        return _rect(x, y, width * (0x2590 - code) / 8, height)
    if char in _PARTS:
        left, top, wide, tall = _PARTS[char]
        return _rect(x + left * width, y + top * height, wide * width, tall * height)
    if char in _SHADES:
        return _rect(x, y, width, height, f' fill-opacity="{_SHADES[char]}"')
    if char in _LINES:
        return _line(char, x, y, width, height)
    if 0x2800 < code <= 0x28FF:
        return _braille(code - 0x2800, x, y, width, height)
    return None


def _line(char: str, x: float, y: float, width: float, height: float) -> str:
    arms, weight = _LINES[char]
    middle, centre = x + width / 2, y + height / 2
    ends = {"l": (x, centre), "r": (x + width, centre), "u": (middle, y), "d": (middle, y + height)}
    meet = f"{_n(middle)} {_n(centre)}"
    if char in _ROUND:
        start, end = ends[arms[0]], ends[arms[1]]
        bend = centre + (width / 2 if arms[1] == "d" else -width / 2)
        path = f"M{_n(start[0])} {_n(start[1])}Q{meet} {_n(middle)} {_n(bend)}"
        path += f"L{_n(end[0])} {_n(end[1])}"
    else:
        path = "".join(f"M{meet}L{_n(ends[arm][0])} {_n(ends[arm][1])}" for arm in arms)
    return f'<path d="{path}" class="l" stroke-width="{_n(weight)}"/>'


def _braille(bits: int, x: float, y: float, width: float, height: float) -> str:
    dots = (dot for bit, dot in enumerate(_DOTS) if bits >> bit & 1)
    dot = width * 0.3, height * 0.15
    return "".join(
        _rect(x + (0.2 + 0.5 * col) * width, y + (0.05 + 0.25 * row) * height, *dot)
        for col, row in dots
    )
