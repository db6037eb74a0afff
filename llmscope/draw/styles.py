"""The styles of a set of render options, created once and shared by all cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.color import Color
from rich.style import Style

from llmscope.draw.color import arithmetic
from llmscope.draw.color.arithmetic import RGB
from llmscope.draw.color.theme import Theme
from llmscope.draw.render_options import RenderOptions, Tier
from llmscope.errors import WrongValueError

if TYPE_CHECKING:
    from llmscope.draw.glyphs import Glyphs

LEVELS = 32
MINIMUM_CONTRAST = 4.5
APART = 0.06
"""Distance in OKLab below which plus and minus are drawn with glyphs instead of colours."""


@dataclass(frozen=True)
class Ramp:
    """Steps from the smallest value to the largest.

    Attributes:
        styles: the style of each step, with a readable foreground, and at the end that of a
            missing value.
        glyphs: the character that fills a cell of each step: a blank if the steps differ by
            colour, otherwise a character of increasing weight.
        signed: whether zero is the middle step.
    """

    styles: tuple[Style, ...]
    glyphs: tuple[str, ...]
    signed: bool

    def __len__(self) -> int:
        return len(self.styles) - 1

    @property
    def coloured(self) -> bool:
        """Return whether the steps differ by colour rather than by glyph."""
        return self.glyphs[0] == self.glyphs[-2]


class Styles:
    """Styles and glyphs of one set of render options; see `styles_for`."""

    def __init__(self, look: RenderOptions) -> None:
        # Imported late: the app needs a constant of this module before it draws any glyph.
        from llmscope.draw.glyphs import ASCII, UNICODE

        self.look = look
        self.glyphs: Glyphs = ASCII if look.ascii else UNICODE
        theme = look.theme
        self.base = self.style(theme.text)
        self.strong = self.style(theme.text, bold=True)
        self.dim = self.style(theme.dim, faint=True)
        self.border = self.style(theme.border, faint=True)
        self.accent = self.style(theme.accent, bold=True)
        self.verdicts = {
            "verified": self.style(theme.success),
            "partial": self.style(theme.warning),
            "unverified": self.style(theme.error),
            "refused": self.style(theme.error),
        }
        self.series = tuple(self.style(stop) for stop in theme.categorical)
        self.sequential = _sequential(self)
        self.diverging = _diverging(self)
        # Ramps end close to the colour of text, so bars use an earlier, more saturated stop.
        self.bar = self.style(_stop(theme.sequential, 0.6 if theme.dark else 0.8))
        self.plus = self.style(_stop(theme.positive, 0.7))
        self.minus = self.style(_stop(theme.negative, 0.7))
        self.cursor = self._cursor()

    @property
    def colours(self) -> bool:
        """Return whether background colours can show values."""
        return self.look.tier in ("truecolor", "256")

    def style(self, foreground: str, *, bold: bool = False, faint: bool = False) -> Style:
        """Return the style of text on the background; `faint` dims it if there are no colours."""
        tier, theme = self.look.tier, self.look.theme
        if self.colours:
            background = self.shade(arithmetic.parse_hex(theme.background))
            return Style(
                color=self.shade(arithmetic.parse_hex(foreground)), bgcolor=background, bold=bold
            )
        if tier == "16" and foreground not in (theme.text, theme.dim, theme.border):
            return Style(color=self.shade(arithmetic.parse_hex(foreground)), bold=bold)
        return Style(bold=bold, dim=faint or None)

    def shade(self, rgb: RGB) -> Color:
        """Return the colour that this tier shows for `rgb`."""
        return shade(rgb, self.look.tier)

    def on(self, background: Color, *, bold: bool = False) -> Style:
        """Return the style of text on a background, dark or light, whichever contrasts more."""
        rgb = _rgb(background)
        theme = self.look.theme
        choices = [arithmetic.parse_hex(theme.text), arithmetic.parse_hex(theme.background)]
        foregrounds = [self.shade(choice) for choice in choices]
        best = max(foregrounds, key=lambda foreground: arithmetic.contrast(_rgb(foreground), rgb))
        if arithmetic.contrast(_rgb(best), rgb) < MINIMUM_CONTRAST:
            # Black or white always reaches 4.5; a theme's softer colours may not on a mid tone.
            pure = [self.shade((0, 0, 0)), self.shade((255, 255, 255))]
            best = max(pure, key=lambda foreground: arithmetic.contrast(_rgb(foreground), rgb))
        return Style(color=best, bgcolor=background, bold=bold)

    def bar_of(self, value: float, *, signed: bool) -> Style:
        """Return the style of the bar of a value; `signed` where there are values of both signs."""
        if not signed:
            return self.bar
        return self.minus if value < 0 else self.plus

    def _cursor(self) -> Style:
        if self.colours:
            return self.on(self.shade(arithmetic.parse_hex(self.look.theme.accent)), bold=True)
        return Style(reverse=True, bold=True)


@lru_cache(maxsize=32)
def styles_for(look: RenderOptions) -> Styles:
    """Return the styles of a set of render options."""
    return Styles(look)


def shade(rgb: RGB, tier: Tier) -> Color:
    """Return the colour that a tier shows for `rgb`."""
    if tier == "truecolor":
        return Color.from_rgb(*rgb)
    if tier == "256":
        return Color.from_ansi(arithmetic.nearest_256(rgb))
    return Color.from_ansi(arithmetic.nearest_16(rgb))


def _rgb(color: Color) -> RGB:
    if color.number is not None:
        return arithmetic.xterm(color.number)
    if color.triplet is None:
        raise WrongValueError("the terminal's default colour has no known value")
    return (color.triplet.red, color.triplet.green, color.triplet.blue)


def _stop(names: tuple[str, ...], share: float) -> str:
    """Return the stop nearest to `share` (0 to 1) along a ramp."""
    return names[round(share * (len(names) - 1))]


def _stops(names: tuple[str, ...]) -> tuple[RGB, ...]:
    return tuple(arithmetic.parse_hex(name) for name in names)


def _shades(style_set: Styles, names: tuple[str, ...], count: int) -> tuple[Color, ...]:
    stops = _stops(names)
    if style_set.look.tier == "truecolor":
        return tuple(Color.from_rgb(*rgb) for rgb in arithmetic.along(stops, count))
    return tuple(Color.from_ansi(index) for index in arithmetic.monotone_256(stops))


def _sequential(style_set: Styles) -> Ramp:
    if not style_set.colours:
        density = tuple(style_set.glyphs.density)
        return Ramp((style_set.base,) * (len(density) + 1), (*density, " "), signed=False)
    styles = [
        style_set.on(shade) for shade in _shades(style_set, style_set.look.theme.sequential, LEVELS)
    ]
    return Ramp((*styles, style_set.base), (" ",) * (len(styles) + 1), signed=False)


def _diverging(style_set: Styles) -> Ramp:
    theme = style_set.look.theme
    if not style_set.colours or _alike(theme):
        plus, minus = style_set.glyphs.plus, style_set.glyphs.minus
        cold = style_set.style(_stop(theme.negative, 0.7))
        warm = style_set.style(_stop(theme.positive, 0.7))
        glyphs = (*reversed(minus[1:]), " ", *plus[1:])
        styles = (*(cold for _ in minus[1:]), style_set.base, *(warm for _ in plus[1:]))
        return Ramp((*styles, style_set.base), (*glyphs, " "), signed=True)
    below = _shades(style_set, theme.negative, LEVELS // 2)
    above = _shades(style_set, theme.positive, LEVELS // 2)
    half = min(len(below), len(above))
    below, above = _evenly_spaced(below, half), _evenly_spaced(above, half)
    inked = [style_set.on(shade) for shade in (*reversed(below[1:]), *above)]
    return Ramp((*inked, style_set.base), (" ",) * (len(inked) + 1), signed=True)


def _alike(theme: Theme) -> bool:
    """Return whether plus and minus have indistinguishable colours, such as two greys."""
    ends = zip(_stops(theme.negative[-2:]), _stops(theme.positive[-2:]), strict=True)
    return all(arithmetic.distance(color, other) < APART for color, other in ends)


def _evenly_spaced(shades: tuple[Color, ...], count: int) -> tuple[Color, ...]:
    """Return `count` of the shades with both ends, so that both sides of zero are equally long."""
    last = len(shades) - 1
    return tuple(shades[round(index * last / max(count - 1, 1))] for index in range(count))
