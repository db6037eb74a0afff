"""The colours of a page: those of the theme, and the steps of its ramps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.color import Color
from rich.style import Style

from llmscope.draw import RenderOptions, Styles, Theme, styles_for
from llmscope.draw.color.arithmetic import RGB, along, distance, parse_hex, to_hex
from llmscope.draw.styles import APART, LEVELS


def page_theme(look: RenderOptions) -> Theme:
    """Return the theme of a page: of tier `none`, with greys as bright as its own two colours."""
    if look.tier != "none":
        return look.theme
    text, background = (_grey(color) for color in (look.theme.text, look.theme.background))
    return replace(look.theme, text=text, background=background)


def colors_of(look: RenderOptions) -> dict[str, Any]:
    """Return the colours of a page, each as `#rrggbb`.

    A browser shows all colours, so they are those of the theme whatever the tier; only `none` makes
    them greys.

    Returns:
        The theme's colours by name; `bar`, `plus`, `minus`; `series`, a list; `sequential` and
        `diverging`, each a list of [background, text] from the lowest value to the highest; and
        `marks`: whether negative values need a mark, because their colours do not differ from those
        of positive ones.
    """
    theme = replace(page_theme(look), native=False)
    grey = look.tier == "none"
    if grey:
        theme = _in_greys(theme)
    styles = styles_for(RenderOptions(theme, "truecolor"))
    below, above = (along(_stops(stops), LEVELS // 2) for stops in (theme.negative, theme.positive))
    ends = zip(_stops(theme.negative[-2:]), _stops(theme.positive[-2:]), strict=True)
    return {
        "look": {
            name: getattr(theme, name)
            for name in ("background", "panel", "text", "dim", "border", "accent", "warning")
        }
        | {"success": theme.success, "error": theme.error, "ink": _hex(styles.cursor.color)}
        | {name: _hex(getattr(styles, name).color) for name in ("bar", "plus", "minus")},
        "dark": theme.dark,
        "series": list(theme.categorical),
        "sequential": _add_text_colours(along(_stops(theme.sequential), LEVELS), styles),
        "diverging": _add_text_colours((*reversed(below[1:]), *above), styles),
        "marks": grey or all(distance(color, other) < APART for color, other in ends),
    }


def _in_greys(theme: Theme) -> Theme:
    """Return the theme in greys between its background and its text."""
    greys = (theme.background, theme.text)
    dim, border = (to_hex(along(_stops(greys), 5)[at]) for at in (3, 1))
    text = theme.text
    return replace(
        theme,
        panel=theme.background,
        dim=dim,
        border=border,
        accent=text,
        success=text,
        warning=text,
        error=text,
        sequential=greys,
        negative=greys,
        positive=greys,
        categorical=(text, dim),
    )


def _add_text_colours(shades: tuple[RGB, ...], styles: Styles) -> list[list[str]]:
    """Return each background with the colour of text that is readable on it."""
    inked: list[Style] = [styles.on(Color.from_rgb(*shade)) for shade in shades]
    return [[_hex(style.bgcolor), _hex(style.color)] for style in inked]


def _stops(names: tuple[str, ...]) -> tuple[RGB, ...]:
    return tuple(map(parse_hex, names))


def _hex(color: Color | None) -> str:
    assert color is not None
    assert color.triplet is not None
    return color.triplet.hex


def _grey(colour: str) -> str:
    red, green, blue = parse_hex(colour)
    level = round(0.2126 * red + 0.7152 * green + 0.0722 * blue)  # Rec. 709
    return to_hex((level, level, level))
