import pytest

from llmscope.draw import Look, load_theme, palette, theme_names
from llmscope.draw.colour import contrast, luminance, parse_hex, xterm
from llmscope.draw.theme import read_theme, theme_folder
from llmscope.errors import ScopeError

TIERS = ("truecolor", "256")


def rgb(color):
    return xterm(color.number) if color.number is not None else tuple(color.triplet)


def test_dark_is_the_first_of_several():
    assert theme_names()[0] == "dark"
    assert "light" in theme_names()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", theme_names())
def test_all_writing_can_be_read(name, tier):
    look = Look(load_theme(name), tier)
    ready = palette(look)
    panel = parse_hex(look.theme.panel)
    inks = [ready.base, ready.dim, ready.accent, ready.cursor, *ready.verdicts.values()]
    for style in inks:
        assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 4.5
    for ink in ("text", "accent"):
        assert contrast(parse_hex(getattr(look.theme, ink)), panel) >= 4.5


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", theme_names())
def test_text_can_be_read_on_every_step(name, tier):
    ready = palette(Look(load_theme(name), tier))
    for ramp in (ready.sequential, ready.diverging):
        for style in ramp.styles:
            assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 4.5


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", theme_names())
def test_luminance_goes_one_way(name, tier):
    look = Look(load_theme(name), tier)
    ready = palette(look)
    light = [luminance(rgb(style.bgcolor)) for style in ready.sequential.styles[:-1]]
    assert 8 <= len(light) <= 32
    assert light == sorted(set(light), reverse=not look.theme.dark)

    light = [luminance(rgb(style.bgcolor)) for style in ready.diverging.styles[:-1]]
    middle = len(light) // 2
    assert len(light) % 2 == 1
    assert light[middle:] == sorted(set(light[middle:]), reverse=not look.theme.dark)
    assert light[: middle + 1] == sorted(set(light[: middle + 1]), reverse=look.theme.dark)


@pytest.mark.parametrize("name", theme_names())
def test_zero_of_a_signed_scale_is_the_ground(name):
    ready = palette(Look(load_theme(name)))
    middle = ready.diverging.styles[len(ready.diverging) // 2]
    assert middle.bgcolor == ready.base.bgcolor


@pytest.mark.parametrize(("safe", "glyphs"), [(False, " ░▒▓█"), (True, " .:-=+*#%@")])
@pytest.mark.parametrize("tier", ["16", "none"])
def test_without_colours_weight_tells(tier, safe, glyphs):
    ramp = palette(Look(tier=tier, ascii=safe)).sequential
    assert "".join(ramp.glyphs[:-1]) == glyphs
    assert not ramp.coloured


def test_no_colour_means_none():
    ready = palette(Look(tier="none"))
    styles = [*vars(ready).values(), *ready.series, *ready.diverging.styles]
    styles += ready.verdicts.values()
    for style in styles:
        if hasattr(style, "bgcolor"):
            assert style.color is None
            assert style.bgcolor is None


def test_an_unknown_theme_names_those_there_are():
    with pytest.raises(ScopeError) as caught:
        load_theme("../\x1b[31m")
    assert "dark" in caught.value.hint
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('ground = "#0d1015"', 'ground = "black"', "black"),
        ('accent = "#ffb454"', "", "accent"),
        ('name = "dark"', "name = ", "line"),
    ],
)
def test_a_broken_theme_says_what_is_wrong(tmp_path, old, new, reason):
    source = (theme_folder() / "dark.toml").read_text()
    assert old in source
    path = tmp_path / "mine.toml"
    path.write_text(source.replace(old, new))
    with pytest.raises(ScopeError, match=r"mine\.toml") as caught:
        read_theme(path)
    assert reason in caught.value.message
