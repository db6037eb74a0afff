"""The look paper: the numbers that stand in its axes, and files that are the same each time."""

import json
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from llmscope.draw import load_theme
from llmscope.errors import ScopeError
from llmscope.export import PaperStyle, render
from llmscope.export.edits_caption import EditsCaption
from llmscope.export.paper import PAPER_FORMATS, paper
from llmscope.figure import Axis, Figure
from tests.cli.running import failure, fresh, run

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.text")


def make(kind, *names, unit="logit", seed=0):
    shape = tuple(range(3, 3 + len(names)))
    axes = [
        Axis(name, tuple(f" {name}{i}" for i in range(3 + at))) for at, name in enumerate(names)
    ]
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Figure("any", "Any $x_1$", kind, tuple(axes), values, unit)


def drawn(*figures, **options):
    """All axes of the page that hold anything, without the colour bars."""
    page = paper(figures, **options)
    return [axes for axes in page.get_axes() if axes.get_label() != "<colorbar>"]


def words(ticks):
    return [label.get_text() for label in ticks]


def test_a_map_has_its_numbers_labels_and_colour_bar():
    figure = make("heatmap", "layer", "position")
    values = figure.values.copy()
    values[0, 1] = np.nan
    figure = replace(figure, values=values)
    page = paper([figure])
    axes, bar = page.get_axes()
    (mesh,) = axes.collections
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), figure.values)
    most = np.nanmax(abs(values))
    assert mesh.get_clim() == pytest.approx((-most, most))  # signs to both sides of zero
    assert words(axes.get_yticklabels()) == [" layer0", " layer1", " layer2"]
    assert words(axes.get_xticklabels()) == [f"·position{i}" for i in range(4)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "layer")
    assert axes.yaxis_inverted()
    assert bar.get_ylabel() == "logit"


def test_several_maps_share_one_scale():
    figure = make("heatmap", "head", "query", "key")
    shown = drawn(figure)
    meshes = [axes.collections[0] for axes in shown if axes.collections]
    np.testing.assert_array_equal([mesh.get_array() for mesh in meshes], figure.values)
    assert len({mesh.get_clim() for mesh in meshes}) == 1
    assert [axes.get_title() for axes in shown][:3] == [f"head head{i}" for i in range(3)]


@pytest.mark.parametrize("kind", ["bars", "tokens"])
def test_bars_are_as_long_as_their_numbers(kind):
    figure = make(kind, "token")
    (axes,) = drawn(figure)
    assert [bar.get_width() for bar in axes.patches] == figure.values.tolist()
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2  # above and below zero
    assert words(axes.get_yticklabels()) == ["·token0", "·token1", "·token2"]
    assert axes.get_xlabel() == "logit"


def test_curves_go_through_their_numbers():
    figure = make("lines", "prompt", "layer")
    (axes,) = drawn(figure)
    np.testing.assert_array_equal([line.get_ydata() for line in axes.lines], figure.values)
    assert words(axes.get_legend().get_texts()) == [" prompt0", " prompt1", " prompt2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "logit")


def test_probabilities_go_from_0_to_1_and_decades_are_logarithmic():
    values = np.array([[0.2, 0.4]], np.float32)
    axes = (Axis("layer", ("0",)), Axis("head", ("0", "1")))
    figure = Figure("any", "Any", "heatmap", axes, values, "probability")
    assert drawn(figure)[0].collections[0].get_clim() == (0, 1)
    wide = replace(figure, values=np.array([[1e-4, 10]], np.float32), unit="norm")
    mesh = drawn(wide)[0].collections[0]
    assert type(mesh.norm).__name__ == "LogNorm"
    assert mesh.get_clim() == pytest.approx((1e-4, 10))


def test_a_map_of_words_says_them():
    values = np.array([[0.2, 0.9]], np.float32)
    axes = (Axis("layer", ("0",)), Axis("position", ("a", "b")))
    extra = {"ids": np.array([[7, 8]]), "names": {7: " understanding", 8: "$\\x\x1b$"}}
    figure = Figure("any", "Any", "heatmap", axes, values, "probability", extra=extra)
    assert words(drawn(figure)[0].texts) == ["understa…", "$\\x\\x1b$"]
    figure.extra["names"] |= {7: " ", 8: "\n\n"}  # white space alone is shown as on the screen
    assert words(drawn(figure)[0].texts) == ["·", "↵↵"]


def test_a_refused_figure_and_a_doubtful_one_say_why():
    refused = Figure.refused("any", "Any", "there is none")
    (part,) = paper([refused]).subfigs
    assert "there is none" in words(part.texts)
    doubtful = replace(make("bars", "token"), verdict=replace(refused.verdict, status="partial"))
    (part,) = paper([doubtful]).subfigs
    assert part.get_suptitle() == "Any $x_1$ · partial: there is none"


def test_edits_and_prompt_b_stand_above():
    page = paper([make("bars", "token")], whatif=EditsCaption(("zero head 1.0",), "B", True))
    assert page.get_suptitle() == "edit: zero head 1.0\nprompt B: B"


def test_a_long_prompt_b_stays_on_the_page_and_leaves_the_figure_its_height():
    style = PaperStyle(width=85)
    short, long = (
        paper(
            [make("bars", "token")],
            whatif=EditsCaption(("zero head 1.0",), " ".join(count * ["Wide words"]), True),
            style=style,
        )
        for count in (1, 12)
    )
    long.draw_without_rendering()
    title = long._suptitle.get_window_extent()
    assert long.get_suptitle().count("Wide words") + long.get_suptitle().count("Wide\nwords") == 12
    assert long.bbox.x0 <= title.x0 < title.x1 <= long.bbox.x1
    axes = [*short.get_axes(), *long.get_axes()]
    short.draw_without_rendering()
    heights = [one.get_window_extent().height for one in axes]
    assert heights[1] >= 0.95 * heights[0]


@pytest.mark.few(1)
@pytest.mark.parametrize("name", PAPER_FORMATS)
def test_the_same_bytes_whatever_matplotlib_is_set_to(name):
    import matplotlib

    figures = [make("heatmap", "layer", "position"), make("lines", "prompt", "layer")]
    about = {"provenance": {"command": "<llmscope> 日本"}}
    once = render(figures, name, look="paper", about=about)
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "axes.facecolor": "red"}):
        assert render(figures, name, look="paper", about=about) == once
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[name]
    assert once.startswith(start)
    if name == "svg":
        text = "".join(ET.fromstring(once).itertext())
        assert '"<llmscope> 日本"' in text
        assert b"<image" not in once  # nothing of it is pixels


def test_foreign_text_is_text_in_every_format(figure, recwarn):
    for name in PAPER_FORMATS:
        data = render(figure, name, look="paper")
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
    svg = render(figure, "svg", look="paper").decode()
    said = "".join(ET.fromstring(svg).itertext())
    assert "<b>&\"'" in said
    assert "日本" in said
    assert not re.findall(r"[\x00-\x08\x1b\x9b]", svg)
    assert len(data) > 2000


def test_a_table_has_no_axes_and_other_formats_are_refused():
    with pytest.raises(ScopeError, match="any is a table"):
        paper([make("table", "step", "statistic")])
    with pytest.raises(ScopeError, match="svg, pdf, png"):
        render(make("bars", "token"), "json", look="paper")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ScopeError, match="matplotlib") as caught:
        paper([make("bars", "token")])
    assert "pip install matplotlib" in caught.value.hint


def test_a_snapshot_on_paper(tmp_path):
    asked = ["snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "attention"]
    for name in ("a.pdf", "b.pdf"):
        result = run(*asked, "--look", "paper", "--out", tmp_path / name, "--size", "60x20")
        assert result.exit_code == 0, result.stderr
    data = (tmp_path / "a.pdf").read_bytes()
    assert data == (tmp_path / "b.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 300 200 ]" in data
    assert b"--look paper" in data
    assert "--look paper for pdf" in failure(*asked, "--out", tmp_path / "c.pdf")
    assert "--look" in failure(*asked, "--look", "poster", code=2)
    assert "--format" in failure(*asked, "--look", "paper", "--format", "txt", code=2)
    screen = ["snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "screen"]
    assert "--look" in failure(*screen, "--look", "paper", code=2)
    assert "--theme" in failure(*asked, "--look", "paper", "--theme", "light", code=2)
    assert "--ascii" in failure(*asked, "--look", "paper", "--ascii", code=2)
    table = ["snapshot", "no/such", "--prompt", "CAB", "--lens", "walkthrough"]
    assert "table" in failure(*table, "--look", "paper", code=2)


@pytest.mark.slow
def test_nothing_is_written_beside_the_picture_and_the_cache(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    folders = {"HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}
    ask = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "attention", "--look", "paper")
    cache = str(tmp_path / "cache")
    result = fresh(*ask, "--out", tmp_path / "x.svg", LLMSCOPE_CACHE=cache, **folders)
    assert result.returncode == 0, result.stderr
    assert list(home.rglob("*matplotlib*")) == []
    assert list((tmp_path / "cache" / "matplotlib").glob("fontlist*"))


def overlaps(page):
    """Pairs of texts that are drawn over one another."""
    page.draw_without_rendering()
    boxes = []
    for text in page.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent()
            if box.width > 0 and box.height > 0:
                boxes.append((text.get_text(), box))
    return [
        (one, other)
        for at, (one, first) in enumerate(boxes)
        for other, second in boxes[at + 1 :]
        if first.x0 < second.x1 - 1
        and second.x0 < first.x1 - 1
        and first.y0 < second.y1 - 1
        and second.y0 < first.y1 - 1
    ]


@pytest.mark.parametrize(("heads", "tokens"), [(3, 5), (4, 30), (12, 12), (32, 40), (64, 9)])
@pytest.mark.few(1)
def test_the_maps_of_all_heads_do_not_print_over_one_another(heads, tokens):
    labels = tuple(f" token{at}" * (1 + at % 3) for at in range(tokens))
    axes = (Axis("head", tuple(map(str, range(heads)))), Axis("query", labels), Axis("key", labels))
    values = np.random.default_rng(0).random((heads, tokens, tokens)).astype(np.float32)
    figure = Figure("attention", "All heads", "heatmap", axes, values, "probability")
    page = paper([figure])
    shown = [axes for axes in page.get_axes() if axes.collections and axes.get_title()]
    assert len(shown) == heads
    assert overlaps(page) == []


def a_logit_lens(layers, tokens):
    axes = (
        Axis("layer", tuple(map(str, range(layers)))),
        Axis("position", tuple(f"t{at}" for at in range(tokens))),
    )
    ids = np.arange(layers * tokens).reshape(layers, tokens)
    extra = {"ids": ids, "names": {int(one): f" w{one}" for one in ids.flat}}
    values = np.random.default_rng(0).random((layers, tokens)).astype(np.float32)
    return Figure("logit-lens", "Logit lens", "heatmap", axes, values, "probability", extra=extra)


@pytest.mark.parametrize(
    ("layers", "tokens", "width"), [(4, 5, None), (5, 90, None), (31, 20, None), (6, 20, 85.0)]
)
@pytest.mark.few(1)
def test_the_words_of_a_logit_lens_of_any_size_are_kept(layers, tokens, width):
    figure = a_logit_lens(layers, tokens)
    page = paper([figure], style=PaperStyle(width=width))
    said = [text.get_text() for axes in page.get_axes() for text in axes.texts]
    assert sorted(said) == sorted(f"w{one}" for one in figure.extra["ids"].flat)
    maps = [axes for axes in page.get_axes() if axes.get_label() != "<colorbar>"]
    assert len({axes.collections[0].get_clim() for axes in maps}) == 1  # one scale for all blocks
    drawn = np.concatenate([axes.collections[0].get_array() for axes in maps], axis=1)
    np.testing.assert_array_equal(drawn, figure.values)
    page.draw_without_rendering()
    cell = maps[0].get_window_extent().width / maps[0].collections[0].get_array().shape[1]
    widest = max(text.get_window_extent().width for axes in maps for text in axes.texts)
    assert widest <= cell
    if width is not None:
        assert page.get_size_inches()[0] * 25.4 == pytest.approx(width)


@pytest.mark.parametrize("kind", ["heatmap", "bars"])
def test_a_sign_has_the_colour_that_it_has_on_the_screen(kind):
    theme = load_theme("light")
    if kind == "bars":
        values = np.array([0.5, -0.5], np.float32)
        figure = Figure("any", "Any", "bars", (Axis("token", ("a", "b")),), values, "logit")
        positive, negative = (bar.get_facecolor() for bar in drawn(figure)[0].patches)
    else:
        values = np.array([[1, -1]], np.float32)
        axes = (Axis("layer", ("0",)), Axis("head", ("0", "1")))
        figure = Figure("any", "Any", "heatmap", axes, values, "logit")
        mesh = drawn(figure)[0].collections[0]
        positive, negative = (mesh.to_rgba(one) for one in (0.6, -0.6))
    for colour, ramp in ((positive, theme.positive), (negative, theme.negative)):
        hue = matplotlib.colors.rgb_to_hsv(colour[:3])[0]
        wanted = matplotlib.colors.rgb_to_hsv(matplotlib.colors.to_rgb(ramp[-2]))[0]
        assert abs(hue - wanted) < 0.05


def test_bars_without_signs_have_one_neutral_colour():
    values = np.array([0.5, 0.2], np.float32)
    figure = Figure("any", "Any", "bars", (Axis("token", ("a", "b")),), values, "probability")
    theme = load_theme("light")
    (colour,) = {matplotlib.colors.to_hex(bar.get_facecolor()) for bar in drawn(figure)[0].patches}
    assert colour not in (*theme.positive, *theme.negative)


def test_colours_font_and_width_of_a_page(tmp_path):
    asked = ["snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "attention"]
    style = ["--look", "paper", "--width", "90", "--font", "DejaVu Serif", "--cmap", "magma"]
    result = run(*asked, *style, "--out", tmp_path / "a.svg", "--out", tmp_path / "a.json")
    assert result.exit_code == 0, result.stderr
    svg = (tmp_path / "a.svg").read_text()
    width = float(re.search(r'<svg [^>]*width="([\d.]+)pt"', svg)[1])
    assert width / 72 * 25.4 == pytest.approx(90, abs=0.01)
    assert "DejaVu Serif" in svg
    assert '--look paper --cmap magma --font "DejaVu Serif" --width 90' in svg.replace(
        "'DejaVu Serif'", '"DejaVu Serif"'
    ).replace("&quot;", '"').replace("--width 90.0", "--width 90")
    told = json.loads((tmp_path / "a.json").read_text())["provenance"]["command"]
    assert "--cmap" not in told
    assert "--look terminal" in told
    for option, value in (("--cmap", "magma"), ("--font", "serif"), ("--width", "80")):
        assert option in failure(*asked, option, value, code=2)
    paper_look = [*asked, "--look", "paper", "--out", tmp_path / "b.svg"]
    assert "--width" in failure(*paper_look, "--width", "80", "--size", "60x20", code=2)
    assert "20 to 5000 mm" in failure(*paper_look, "--width", "2", code=2)
    assert "magma, the nearest" in failure(*paper_look, "--cmap", "magna")
    assert "no font 'Nowhere'" in failure(*paper_look, "--font", "Nowhere")


def is_grey(colour):
    return max(colour[:3]) - min(colour[:3]) < 1e-6


def test_without_colours_maps_and_bars_are_grey_and_signs_stay_apart():
    style = PaperStyle(grey=True)
    signed, plain = make("heatmap", "layer", "head"), make("heatmap", "layer", "head", unit="norm")
    plain = replace(plain, values=np.abs(plain.values))
    for figure, rises in ((signed, 1), (plain, -1)):
        (axes,) = drawn(figure, style=style)
        mesh = axes.collections[0]
        levels = mesh.cmap(np.linspace(0, 1, 9))
        assert all(map(is_grey, levels))
        assert (np.diff(levels[:, 0]) * rises > 0).all()  # lighter for more, or darker
        assert levels.max(axis=0)[0] < 1  # white is a missing value
    (axes,) = drawn(make("bars", "part"), style=style)
    colours = {bar.get_facecolor()[:3] for bar in axes.patches}
    assert all(map(is_grey, colours))
    assert len(colours) == 2
    (axes,) = drawn(signed, style=PaperStyle("magma,coolwarm", grey=True))
    assert axes.collections[0].cmap.name == "coolwarm"


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("words", "environment", "grey"),
    [
        ((), None, False),
        (("--color", "none"), None, True),
        (("--color", "truecolor"), "1", False),
        ((), "1", True),
        ((), "", False),
    ],
)
def test_no_color_holds_on_paper_unless_color_says_else(words, environment, grey, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    if environment is not None:
        monkeypatch.setenv("NO_COLOR", environment)
    look = ("--look", "paper", "--format", "svg", *words)
    told = run("snapshot", "builtin:town", "--prompt", "a dog", "--lens", "tokens", *look).stdout
    found = set(re.findall(r"fill: (#[0-9a-f]{6})", told))
    assert found
    assert all(len({one[1:3], one[3:5], one[5:7]}) == 1 for one in found) == grey


def test_fewer_colours_are_of_the_terminal():
    result = run(
        *("snapshot", "builtin:town", "--prompt", "a", "--lens", "tokens"),
        *("--look", "paper", "--color", "256"),
    )
    assert result.exit_code == 2
    assert "paper has its own" in result.stderr
