"""Colour arithmetic: hex, luminance, contrast, perceptual mixing and the 256 colours of xterm."""

from __future__ import annotations

import math
from functools import cache, lru_cache

RGB = tuple[int, int, int]

NEUTRAL = 0.025
"""Chroma in OKLab below which a colour has no hue to speak of."""

_CUBE = (0, 95, 135, 175, 215, 255)
_ANSI: tuple[RGB, ...] = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0)),
    *((0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0)),
    *((92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
)


def parse_hex(text: str) -> RGB:
    """`#rrggbb` as three bytes.

    Raises:
        ValueError: it is not written so.
    """
    if len(text) != 7 or text[0] != "#":
        raise ValueError(f"{text!r} is not a colour like #1a2b3c")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def to_hex(rgb: RGB) -> str:
    """Three bytes as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _linear(channel: int) -> float:
    value = channel / 255
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _gamma(value: float) -> int:
    value = min(max(value, 0.0), 1.0)
    encoded = value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return round(encoded * 255)


@lru_cache(maxsize=4096)
def luminance(rgb: RGB) -> float:
    """Relative luminance as WCAG defines it: 0 for black, 1 for white."""
    red, green, blue = map(_linear, rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """The WCAG contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@lru_cache(maxsize=4096)
def _oklab(rgb: RGB) -> tuple[float, float, float]:
    red, green, blue = map(_linear, rgb)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(light: float, green_red: float, blue_yellow: float) -> RGB:
    long = (light + 0.3963377774 * green_red + 0.2158037573 * blue_yellow) ** 3
    medium = (light - 0.1055613458 * green_red - 0.0638541728 * blue_yellow) ** 3
    short = (light - 0.0894841775 * green_red - 1.2914855480 * blue_yellow) ** 3
    return (
        _gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def mix(one: RGB, other: RGB, share: float) -> RGB:
    """The colour `share` of the way from one to the other, in OKLab (Ottosson 2020)."""
    if share <= 0:
        return one
    if share >= 1:
        return other
    start, end = _oklab(one), _oklab(other)
    return _from_oklab(*(a + (b - a) * share for a, b in zip(start, end, strict=True)))


def along(stops: tuple[RGB, ...], count: int) -> tuple[RGB, ...]:
    """`count` colours evenly spaced along the line through the stops, ends included."""
    colours: list[RGB] = []
    for index in range(count):
        place = index * (len(stops) - 1) / max(count - 1, 1)
        left = min(int(place), len(stops) - 2)
        colours.append(mix(stops[left], stops[left + 1], place - left))
    return tuple(colours)


@cache
def xterm(index: int) -> RGB:
    """The colour that xterm shows for one of its 256 numbers; 0 to 15 vary between terminals."""
    if index < 16:
        return _ANSI[index]
    if index < 232:
        index -= 16
        return _CUBE[index // 36], _CUBE[index // 6 % 6], _CUBE[index % 6]
    grey = 8 + 10 * (index - 232)
    return grey, grey, grey


def _distance(one: RGB, other: RGB) -> float:
    return sum((a - b) ** 2 for a, b in zip(_oklab(one), _oklab(other), strict=True))


@lru_cache(maxsize=4096)
def nearest_256(rgb: RGB) -> int:
    """The number, 16 to 255, of the xterm colour that looks most alike."""
    return min(range(16, 256), key=lambda index: _distance(rgb, xterm(index)))


@lru_cache(maxsize=256)
def nearest_16(rgb: RGB) -> int:
    """The number, 0 to 15, of the ANSI colour of the same hue; a grey for what has none.

    Terminals choose these colours themselves, so that only their hues can be relied on.
    """
    light = luminance(rgb) > 0.2
    if _chroma(rgb) < NEUTRAL:
        return min((0, 8, 7, 15), key=lambda index: _distance(rgb, xterm(index)))
    hue = _hue(rgb)
    apart = {index: abs(hue - _hue(xterm(index + 8))) for index in range(1, 7)}
    return min(apart, key=lambda index: min(apart[index], math.tau - apart[index])) + 8 * light


def monotone_256(stops: tuple[RGB, ...], samples: int = 64) -> tuple[int, ...]:
    """Colours of the xterm cube along the line through the stops, luminance going one way.

    Rounding a ramp to the nearest colour makes some steps go backwards and turns dark ones grey:
    the first are left out, and after the first stop only colours with a hue are considered, with
    hue before lightness.
    """
    rising = luminance(stops[-1]) > luminance(stops[0])
    kept = [nearest_256(stops[0])]
    for rgb in along(stops, samples):
        if _chroma(rgb) < NEUTRAL:
            continue
        index = _nearest_in_cube(rgb)
        before, here = luminance(xterm(kept[-1])), luminance(xterm(index))
        if (here > before) if rising else (here < before):
            kept.append(index)
    return tuple(kept)


@lru_cache(maxsize=4096)
def _nearest_in_cube(rgb: RGB) -> int:
    light, *hue = _oklab(rgb)

    def apart(index: int) -> float:
        other, *its_hue = _oklab(xterm(index))
        return (light - other) ** 2 / 2 + sum(
            (a - b) ** 2 for a, b in zip(hue, its_hue, strict=True)
        )

    coloured = (index for index in range(16, 232) if len(set(xterm(index))) > 1)
    return min(coloured, key=apart)


def _chroma(rgb: RGB) -> float:
    _, green_red, blue_yellow = _oklab(rgb)
    return math.hypot(green_red, blue_yellow)


def _hue(rgb: RGB) -> float:
    _, green_red, blue_yellow = _oklab(rgb)
    return math.atan2(blue_yellow, green_red)
