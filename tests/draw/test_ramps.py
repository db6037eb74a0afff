"""Ramps in the colours that terminals really show, and as people with two kinds of cones see them.

The matrices are those of Machado, Oliveira and Fernandes (2009), "A Physiologically-based Model
for Simulation of Color Vision Deficiency", for a kind of cone that is missing altogether. They
apply to linear RGB.
"""

import itertools
import re
from colorsys import rgb_to_hsv

import numpy as np
import pytest

from llmscope.draw import RenderOptions, load_theme, styles_for, theme_names
from llmscope.draw.color.arithmetic import distance, luminance, parse_hex, xterm
from llmscope.draw.color.theme import theme_folder
from llmscope.export.svg_glyphs import shape

MACHADO = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
COLOURED = [name for name in theme_names() if not load_theme(name).native]
TIERS = ("truecolor", "256")


def seen(rgb, vision):
    """A colour as someone without one kind of cone sees it."""
    share = np.array(rgb) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(MACHADO[vision]) @ linear, 0, 1)
    shown = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(int(value) for value in np.rint(shown * 255))


def shown(ramp):
    """The grounds of its steps, as the terminal shows them."""
    grounds = [style.bgcolor for style in ramp.styles[:-1]]
    return [xterm(g.number) if g.number is not None else tuple(g.triplet) for g in grounds]


def lights(colours):
    return [luminance(rgb) for rgb in colours]


def sides(ramp):
    """The steps of a signed ramp from zero outwards: negative ones, positive ones."""
    colours = shown(ramp)
    middle = len(colours) // 2
    return colours[middle::-1], colours[middle:]


@pytest.mark.parametrize("vision", MACHADO)
def test_greys_are_seen_alike_by_everyone(vision):
    for level in (0, 90, 255):
        assert seen((level,) * 3, vision) == (level,) * 3


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", COLOURED)
def test_luminance_goes_one_way(name, tier):
    look = RenderOptions(load_theme(name), tier)
    ready = styles_for(look)
    light = lights(shown(ready.sequential))
    assert 8 <= len(light) <= 32
    assert light == sorted(set(light), reverse=not look.theme.dark)
    if not ready.diverging.coloured:
        return
    below, above = sides(ready.diverging)
    assert len(below) == len(above) >= 8
    for side in (below, above):
        assert lights(side) == sorted(set(lights(side)), reverse=not look.theme.dark)


@pytest.mark.parametrize("name", COLOURED)
def test_steps_of_a_theme_are_even(name):
    """No step of a ramp in all colours is much larger than the others: no edges that are none."""
    colours = shown(styles_for(RenderOptions(load_theme(name))).sequential)
    steps = [distance(a, b) for a, b in itertools.pairwise(colours)]
    assert max(steps) < 3 * np.mean(steps)
    assert min(steps) > np.mean(steps) / 4


def test_the_dark_ramp_of_256_colours_does_not_turn_back_to_blue():
    """It goes from dark through sea-green to pale, as the one in all colours does.

    By rounding to the nearest colour it went from green to blue at its dark end.
    """
    ramp = shown(styles_for(RenderOptions(load_theme("dark"), "256")).sequential)
    hues = [rgb_to_hsv(*rgb)[0] for rgb in ramp if max(rgb) - min(rgb) > 0.3 * max(rgb)]
    assert len(hues) >= 4
    assert hues == sorted(hues, reverse=True)
    assert hues[0] <= 0.5  # of a turn: cyan


@pytest.mark.parametrize(("safe", "glyphs"), [(False, " ░▒▓█"), (True, " .:-=+*#%@")])
@pytest.mark.parametrize("tier", ["16", "none"])
@pytest.mark.parametrize("name", theme_names())
def test_without_grounds_weight_tells(name, tier, safe, glyphs):
    ramp = styles_for(RenderOptions(load_theme(name), tier, safe)).sequential
    assert "".join(ramp.glyphs[:-1]) == glyphs
    assert not ramp.coloured
    signed = styles_for(RenderOptions(load_theme(name), tier, safe)).diverging
    marks = signed.glyphs[:-1]
    assert len(set(marks)) == len(marks)
    assert marks[len(marks) // 2] == " "


def test_the_shades_really_get_heavier():
    """How much of a cell each covers, in the shapes that pictures draw for them."""

    def cover(glyph):
        if glyph == " ":
            return 0.0
        drawn = shape(glyph, 0, 0, 9, 19)
        part = re.search(r'opacity="([\d.]+)"', drawn)
        return float(part[1]) if part else 1.0

    covers = [cover(glyph) for glyph in " ░▒▓█"]
    assert covers == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("vision", MACHADO)
def test_magnitudes_keep_their_order_without_a_kind_of_cones(vision, tier):
    colours = shown(styles_for(RenderOptions(load_theme("colour-blind"), tier)).sequential)
    colours = [seen(rgb, vision) for rgb in colours]
    assert lights(colours) == sorted(set(lights(colours)))
    assert min(distance(a, b) for a, b in itertools.pairwise(colours)) > 0.012


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("vision", MACHADO)
def test_signs_stay_apart_without_a_kind_of_cones(vision, tier):
    below, above = sides(styles_for(RenderOptions(load_theme("colour-blind"), tier)).diverging)
    below, above = ([seen(rgb, vision) for rgb in side] for side in (below, above))
    for side in (below, above):
        assert lights(side) == sorted(set(lights(side)))
        assert min(distance(a, b) for a, b in itertools.pairwise(side)) > 0.012
    half = len(below) // 2
    apart = [distance(a, b) for a, b in zip(below[half:], above[half:], strict=True)]
    assert min(apart) > 0.06
    assert distance(below[-2], above[-2]) > 0.1


@pytest.mark.parametrize("vision", MACHADO)
def test_verdicts_and_series_stay_apart_without_a_kind_of_cones(vision):
    theme = load_theme("colour-blind")
    inks = [theme.success, theme.warning, theme.error, theme.accent]
    for group in (inks, theme.categorical[:6]):
        colours = [seen(parse_hex(ink), vision) for ink in group]
        assert min(distance(a, b) for a, b in itertools.combinations(colours, 2)) > 0.05


def test_red_against_green_would_fail():
    """The measure tells: a ramp of red against green does not survive."""
    red, green = parse_hex("#c05030"), parse_hex("#7a7a20")
    assert distance(red, green) > 0.1
    assert distance(seen(red, "deuteranopia"), seen(green, "deuteranopia")) < 0.06


def test_every_theme_that_ships_is_read_whole():
    assert {path.stem for path in theme_folder().glob("*.toml")} == set(theme_names())
