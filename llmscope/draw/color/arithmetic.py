"""Colour arithmetic: hex, luminance, contrast, perceptual mixing and the 256 colours of xterm."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache, lru_cache

from llmscope.errors import WrongValueError

RGB = tuple[int, int, int]
Lab = tuple[float, float, float]

NEUTRAL = 0.025
"""Chroma in OKLab below which a colour counts as grey."""

_CUBE = (0, 95, 135, 175, 215, 255)
_ANSI: tuple[RGB, ...] = (
    *((0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0)),
    *((0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)),
    *((127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0)),
    *((92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255)),
)

_HUES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
ANSI_NAMES = (*_HUES, *(f"bright-{hue}" for hue in _HUES))
"""Names of the sixteen terminal colours, indexed by their numbers."""
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def parse_hex(text: str) -> RGB:
    """Convert `#rrggbb` to three bytes.

    Raises:
        ValueError: `text` is not of that form.
    """
    if not _HEX.fullmatch(text):
        raise WrongValueError(f"{text!r} is not a colour like #1a2b3c")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def parse_colour(text: str) -> str:
    """Convert `#rrggbb` or the name of a terminal colour such as `bright-red` to `#rrggbb`.

    Raises:
        ValueError: `text` is neither.
    """
    if text in ANSI_NAMES:
        return to_hex(_ANSI[ANSI_NAMES.index(text)])
    return to_hex(parse_hex(text))


def to_hex(rgb: RGB) -> str:
    """Convert three bytes to `#rrggbb`."""
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
    """Return the relative luminance as WCAG defines it: 0 for black, 1 for white."""
    red, green, blue = map(_linear, rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(color: RGB, other: RGB) -> float:
    """Return the WCAG contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(color), luminance(other)))
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


def mix(color: RGB, other: RGB, share: float) -> RGB:
    """Mix two colours in OKLab (Ottosson 2020); `share` 0 gives `one`, 1 gives `other`."""
    if share <= 0:
        return color
    if share >= 1:
        return other
    start, end = _oklab(color), _oklab(other)
    return _from_oklab(*(a + (b - a) * share for a, b in zip(start, end, strict=True)))


def along(stops: tuple[RGB, ...], count: int) -> tuple[RGB, ...]:
    """Return `count` colours evenly spaced along the line through the stops, ends included."""
    colours: list[RGB] = []
    for index in range(count):
        place = index * (len(stops) - 1) / max(count - 1, 1)
        left = min(int(place), len(stops) - 2)
        colours.append(mix(stops[left], stops[left + 1], place - left))
    return tuple(colours)


@cache
def xterm(index: int) -> RGB:
    """Return the colour of xterm's palette with this number; 0 to 15 vary between terminals."""
    if index < 16:
        return _ANSI[index]
    if index < 232:
        index -= 16
        return _CUBE[index // 36], _CUBE[index // 6 % 6], _CUBE[index % 6]
    grey = 8 + 10 * (index - 232)
    return grey, grey, grey


def distance(color: RGB, other: RGB) -> float:
    """Return the distance of two colours in OKLab, where black and white are 1 apart."""
    return math.dist(_oklab(color), _oklab(other))


@lru_cache(maxsize=4096)
def nearest_256(rgb: RGB) -> int:
    """Return the number, 16 to 255, of the nearest xterm colour in OKLab."""
    return min(range(16, 256), key=lambda index: distance(rgb, xterm(index)))


@lru_cache(maxsize=256)
def nearest_16(rgb: RGB) -> int:
    """Return the number, 0 to 15, of the ANSI colour nearest in hue; a grey for a grey.

    Terminals choose these colours themselves, so only their hues can be relied on. A colour that
    equals one of xterm's sixteen keeps its number.
    """
    if rgb in _ANSI:
        return _ANSI.index(rgb)
    light = luminance(rgb) > 0.2
    if _chroma(rgb) < NEUTRAL:
        return min((0, 8, 7, 15), key=lambda index: distance(rgb, xterm(index)))
    hue = _hue(rgb)
    apart = {index: abs(hue - _hue(xterm(index + 8))) for index in range(1, 7)}
    return min(apart, key=lambda index: min(apart[index], math.tau - apart[index])) + 8 * light


def monotone_256(stops: tuple[RGB, ...], samples: int = 48) -> tuple[int, ...]:
    """Return xterm colours along the line through the stops, with monotone luminance.

    Rounding each colour of a ramp separately makes some steps go backwards in luminance and
    others jump in hue. So the steps are chosen together by dynamic programming: of all chains of
    colours that are monotone along the ramp and in luminance, take the one with the best score. A
    chain scores for each step, and loses for steps that are far from the ramp, that skip much of
    it or that deviate from its direction.
    """
    line = [_oklab(rgb) for rgb in along(stops, samples)]
    rising = luminance(stops[-1]) > luminance(stops[0])
    first, last = nearest_256(stops[0]), nearest_256(stops[-1])
    nodes = [_Node.on(line, index) for index in range(16, 256)]
    nodes = [node for node in nodes if node.off < _FARTHEST or node.index in (first, last)]
    nodes.sort(key=lambda node: (node.light if rising else -node.light, node.index))
    # For each colour the best chain that ends there: its score, and the previous colour.
    best: dict[int, tuple[float, int]] = {first: (0.0, first)}
    chosen = [node for node in nodes if node.index == first]
    for node in nodes:
        ways = [
            (best[before.index][0] + _STEP - node.off - before.strain(node, line), before.index)
            for before in chosen
            if before.place < node.place and abs(before.lab[0] - node.lab[0]) > _JUST_SEEN
        ]
        if node.index != first and ways:
            best[node.index] = max(ways)
            chosen.append(node)
    if last not in best:
        return (first, last)
    chain = [last]
    while chain[-1] != first:
        chain.append(best[chain[-1]][1])
    return tuple(reversed(chain))


_STEP = 0.007
"""Score of one more step, as a squared distance in OKLab."""
_FARTHEST = 0.06
"""Squared distance in OKLab, a and b counted twice, from which a colour is not on the ramp."""
_GREYED = 0.009
"""Penalty of a grey where the ramp has a hue, because dark greys are near every colour."""
_JUST_SEEN = 0.028
"""Minimum difference in lightness between two steps."""
_GAP = 0.6
"""Penalty factor of skipping a part of the ramp, times the square of the skipped share."""


@dataclass(frozen=True, slots=True)
class _Node:
    """An xterm colour: its position along a ramp, and its squared distance from the ramp."""

    index: int
    place: int
    off: float
    light: float
    lab: Lab

    @classmethod
    def on(cls, line: list[Lab], index: int) -> _Node:
        lab = light, green_red, blue_yellow = _oklab(xterm(index))
        off, place = min(
            ((light - a) ** 2 + 2 * ((green_red - b) ** 2 + (blue_yellow - c) ** 2), place)
            for place, (a, b, c) in enumerate(line)
        )
        if math.hypot(green_red, blue_yellow) < NEUTRAL < math.hypot(*line[place][1:]):
            off += _GREYED
        return cls(index, place, off, luminance(xterm(index)), lab)

    def strain(self, other: _Node, line: list[Lab]) -> float:
        """Return the penalty of a step to `other`: skipped share of the ramp, and turn in hue."""
        start, end = line[self.place], line[other.place]
        turn = (other.lab[1] - self.lab[1] - end[1] + start[1]) ** 2
        turn += (other.lab[2] - self.lab[2] - end[2] + start[2]) ** 2
        return 2 * turn + _GAP * ((other.place - self.place) / len(line)) ** 2


def _chroma(rgb: RGB) -> float:
    _, green_red, blue_yellow = _oklab(rgb)
    return math.hypot(green_red, blue_yellow)


def _hue(rgb: RGB) -> float:
    _, green_red, blue_yellow = _oklab(rgb)
    return math.atan2(blue_yellow, green_red)
