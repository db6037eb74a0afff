import pytest

from llmscope.draw import RenderOptions, load_theme, styles_for, theme_names
from llmscope.draw.color.arithmetic import ANSI_NAMES, contrast, luminance, parse_hex, xterm
from llmscope.draw.color.theme import one_colour, read_theme, theme_folder
from llmscope.errors import ScopeError

TIERS = ("truecolor", "256")
COLOURED = [name for name in theme_names() if not load_theme(name).native]


def rgb(color):
    return xterm(color.number) if color.number is not None else tuple(color.triplet)


def of_theme(ready, colour):
    return rgb(ready.shade(parse_hex(colour)))


def test_dark_is_the_first_of_eight_or_more():
    assert theme_names()[0] == "dark"
    wanted = {"light", "high-contrast", "colour-blind", "monochrome", "terminal"}
    assert wanted < set(theme_names())
    assert len(theme_names()) >= 8
    described = {load_theme(name).description for name in theme_names()}
    assert len(described) == len(theme_names())


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", COLOURED)
def test_all_writing_can_be_read(name, tier):
    look = RenderOptions(load_theme(name), tier)
    ready = styles_for(look)
    inks = [ready.base, ready.strong, ready.dim, ready.accent, ready.cursor]
    inks += [*ready.verdicts.values(), *ready.series]
    for style in inks:
        assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 4.5
    panel = of_theme(ready, look.theme.panel)
    for ink in ("text", "dim", "accent", "success", "warning", "error"):
        assert contrast(of_theme(ready, getattr(look.theme, ink)), panel) >= 4.5, ink


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", COLOURED)
def test_bars_and_lines_can_be_seen(name, tier):
    look = RenderOptions(load_theme(name), tier)
    ready = styles_for(look)
    for style in (ready.bar, ready.plus, ready.minus):
        assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 3
    # A frame is an ornament: what it carries is written on it. Which one has the focus is told by
    # the colour of text.
    assert contrast(rgb(ready.border.color), rgb(ready.border.bgcolor)) >= 1.5
    background = of_theme(ready, look.theme.background)
    assert contrast(of_theme(ready, look.theme.text), background) >= 7


def test_high_contrast_is_higher():
    theme = load_theme("high-contrast")
    background = parse_hex(theme.background)
    for ink in ("text", "dim", "accent", "success", "warning", "error"):
        assert contrast(parse_hex(getattr(theme, ink)), background) >= 7
    assert contrast(parse_hex(theme.border), background) >= 4.5


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", COLOURED)
def test_text_can_be_read_on_every_step(name, tier):
    ready = styles_for(RenderOptions(load_theme(name), tier))
    for ramp in (ready.sequential, ready.diverging):
        for style in ramp.styles:
            assert contrast(rgb(style.color), rgb(style.bgcolor)) >= 4.5


@pytest.mark.parametrize("name", COLOURED)
def test_zero_of_a_signed_scale_is_the_ground(name):
    ready = styles_for(RenderOptions(load_theme(name)))
    middle = ready.diverging.styles[len(ready.diverging) // 2]
    assert middle.bgcolor == ready.base.bgcolor


def test_greys_tell_the_sign_by_shape():
    theme = load_theme("monochrome")
    colours = [*theme.sequential, *theme.negative, *theme.positive, *theme.categorical]
    colours += [theme.background, theme.text, theme.accent, theme.success, theme.error]
    assert all(len(set(parse_hex(colour))) == 1 for colour in colours)
    for tier in TIERS:
        ramp = styles_for(RenderOptions(theme, tier)).diverging
        assert "".join(ramp.glyphs[:-1]) == "≡═─- ░▒▓█"
        assert not ramp.coloured
    assert styles_for(RenderOptions(theme)).sequential.coloured


@pytest.mark.parametrize("tier", TIERS)
def test_a_native_theme_sets_no_colour_but_the_terminals_own(tier):
    look = RenderOptions(load_theme("terminal"), tier)
    assert look.tier == "16"
    ready = styles_for(look)
    styles = [ready.base, ready.strong, ready.dim, ready.border, ready.accent, ready.bar]
    styles += [ready.plus, ready.minus, *ready.verdicts.values(), *ready.series]
    styles += [*ready.sequential.styles, *ready.diverging.styles, ready.cursor]
    for style in styles:
        assert style.bgcolor is None
        assert style.color is None or style.color.number in range(1, 16)
    assert ready.base.color is None
    # Its names are those of the terminal: green says 2, whatever that looks like there.
    assert ready.verdicts["verified"].color.number == ANSI_NAMES.index("green")
    assert ready.verdicts["partial"].color.number == ANSI_NAMES.index("yellow")
    assert ready.accent.color.number == ANSI_NAMES.index("magenta")


def test_no_colour_means_none_in_every_theme():
    for name in theme_names():
        ready = styles_for(RenderOptions(load_theme(name), "none"))
        styles = [*vars(ready).values(), *ready.series, *ready.diverging.styles]
        styles += [*ready.verdicts.values(), *ready.sequential.styles]
        for style in styles:
            if hasattr(style, "bgcolor"):
                assert style.color is None
                assert style.bgcolor is None


def test_a_colour_is_hex_or_a_name_of_the_sixteen():
    assert one_colour("#1A2b3c") == "#1a2b3c"
    assert one_colour("bright-blue") == "#5c5cff"
    for wrong in ("blue-ish", "#12", "#12345g", "# 1234", "#+12345", 7, None, ["#123456"]):
        with pytest.raises(ValueError, match="colour"):
            one_colour(wrong)


def test_an_unknown_theme_names_those_there_are():
    with pytest.raises(ScopeError) as caught:
        load_theme("../\x1b[31m")
    assert "dark" in caught.value.hint
    assert "\x1b" not in caught.value.message


def test_an_unknown_theme_names_the_nearest_first():
    for wrong, near in (("drak", "dark"), ("Color-Blind", "colour-blind"), ("vellun", "vellum")):
        with pytest.raises(ScopeError) as caught:
            load_theme(wrong)
        assert caught.value.hint.startswith(f"{near}; all: dark, ")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('background = "#0d1015"', 'background = "blackish"', "blackish"),
        ('accent = "#ffb454"', "", "accent"),
        ("dark = true", "dark = ", "line"),
        ("sequential = [", 'sequential = "#000000" # [', "list"),
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


@pytest.mark.parametrize("name", sorted(set(theme_names()) - {"terminal"}))  # it has no ramps
@pytest.mark.parametrize("tier", ["truecolor", "256"])
def test_ramps_get_lighter_or_darker_at_each_step(name, tier):
    styles = styles_for(RenderOptions(load_theme(name), tier))

    def light(style):
        return luminance(style.bgcolor.get_truecolor())

    steps = [light(style) for style in styles.sequential.styles[:-1]]  # the last one: no value
    assert steps in (sorted(steps), sorted(steps, reverse=True))
    assert len(set(steps)) == len(steps)
