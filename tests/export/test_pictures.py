import io
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.segment import Segment

from llmscope.draw import RenderOptions, framed, load_theme, styles_for
from llmscope.errors import ScopeError
from llmscope.export import format_of, formats, render, render_rows, save
from llmscope.figure import Axis, Figure, Focus, Verdict
from tests.cli.running import run

NONE = ("--color", "none")
SVG = "{http://www.w3.org/2000/svg}"
ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f‪-‮]")


def test_txt_is_framed_with_title_verdict_and_legend(figure):
    lines = render(figure, "txt", size=(60, 9)).splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("╭─ Any <title> & \\x1b more · verified ─")
    assert lines[-1].startswith("╰─ x\\x00y 0 ")
    assert {cell_len(line) for line in lines} == {60}
    assert not any(ACTS.search(line) for line in lines)


def test_a_partial_verdict_says_why(figure):
    partial = replace(figure, verdict=Verdict("partial", "layers 3 to 5 only"))
    assert "partial: layers 3 to 5 only" in render(partial, "txt").splitlines()[0]


def test_a_long_title_leaves_the_verdict(figure):
    long = replace(figure, title="word " * 40)
    head = render(long, "txt", size=(40, 5)).splitlines()[0]
    assert "… · verified ─" in head
    assert cell_len(head) == 40


def test_a_refused_figure_takes_three_lines():
    refused = Figure.refused("attention", "Attention", "there is none")
    lines = render(refused, "txt").splitlines()
    assert len(lines) == 3
    assert "there is none" in lines[1]


def test_figures_stand_below_each_other(figure):
    one = render(figure, "txt")
    assert render([figure, figure], "txt") == one * 2


def test_a_map_finds_its_tokens_among_the_figures(figure):
    bits = np.arange(6, dtype=np.float32)
    tokens = Figure("tokens", "Tokens", "tokens", figure.axes[1:], bits, "bits")
    assert "surprisal" in render([figure, tokens], "txt").split("Tokens")[0]


@pytest.mark.parametrize("tier", ["truecolor", "256", "16", "none"])
def test_ansi_is_the_same_text_in_colours(figure, tier):
    look = RenderOptions(tier=tier)
    rows = framed(figure, 60, 9, look)
    text = render_rows(rows, "ansi", look)
    plain = [line.plain for line in AnsiDecoder().decode(text.rstrip("\n"))]
    assert plain == ["".join(segment.text for segment in row) for row in rows]
    codes = "".join(re.findall(r"\x1b\[([0-9;]*)m", text))
    assert ("38;2;" in codes) == (tier == "truecolor")
    assert ("38;5;" in codes) == (tier == "256")
    left = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not ACTS.search(left)


@pytest.mark.parametrize("tier", ["truecolor", "256", "16", "none"])
def test_svg_is_xml_of_the_right_size(figure, tier):
    root = ET.fromstring(render(figure, "svg", size=(60, 9), look=RenderOptions(tier=tier)))
    assert (root.get("width"), root.get("height")) == ("560.0", "191.0")
    text = "".join(element.text for element in root.iter(f"{SVG}text"))
    assert "Any<title>&\\x1bmore" in text.replace(" ", "")


def test_svg_letters_stand_where_their_cells_are():
    base = styles_for(RenderOptions()).base
    row = (Segment("ab  日本 c", base),)
    root = ET.fromstring(render_rows([row], "svg"))
    places = {e.text: round((float(e.get("x")) - 10) / 9, 3) for e in root.iter(f"{SVG}text")}
    assert places == {"ab": 0, "日": 4, "本": 6, "c": 9}


def test_svg_blocks_are_shapes():
    base = styles_for(RenderOptions()).base
    root = ET.fromstring(render_rows([(Segment("█▌▄⣿╭", base),)], "svg"))
    assert not list(root.iter(f"{SVG}text"))
    group = root.find(f"{SVG}g")
    sizes = [(float(r.get("width")), float(r.get("height"))) for r in group.iter(f"{SVG}rect")]
    assert sizes[:3] == [(9, 19), (4.5, 19), (9, 9.5)]
    assert len(sizes) == 3 + 8
    assert len(list(group.iter(f"{SVG}path"))) == 1


def test_svg_needs_nothing_from_the_web_and_ignores_no_color(figure, monkeypatch):
    before = render(figure, "svg")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert render(figure, "svg") == before
    assert "url(" not in before
    assert re.findall(r"https?://[^\"]*", before) == ["http://www.w3.org/2000/svg"]
    assert RenderOptions().theme.sequential[-1] in before


def test_rows_of_a_screen_that_hold_anything_stay_valid():
    row = (Segment("a\x1b[31m\x00\ud800\ufffe<&>"),)
    root = ET.fromstring(render_rows([row], "svg"))
    assert "".join(e.text for e in root.iter(f"{SVG}text")).endswith("<&>")
    assert "\x1b" not in render_rows([row], "txt")


def test_png_is_twice_as_large_and_not_empty(figure):
    pytest.importorskip("resvg_py")
    data = render(figure, "png", size=(60, 9))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (1120, 382)
    assert len(data) > 2000


def test_png_without_resvg_says_what_to_do(figure, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ScopeError, match="resvg-py") as caught:
        render(figure, "png")
    assert "svg" in caught.value.hint


def test_npz_reads_back(figure):
    figure = replace(figure, extra={"ids": [1, 2], "mode": "raw"})
    with np.load(io.BytesIO(render(figure, "npz")), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["values"], figure.values)
        assert file["ids"].tolist() == [1, 2]
        assert '"mode": "raw"' in str(file["figure"])
    with np.load(io.BytesIO(render([figure, figure], "npz"))) as file:
        assert "1.any.values" in file


@pytest.mark.parametrize("name", [name for name in formats() if name != "safetensors"])
def test_save_takes_the_format_from_the_suffix(figure, tmp_path, name):
    if name == "png":
        pytest.importorskip("resvg_py")
    path = tmp_path / f"a.{name}"
    assert figure.save(path) == path
    data = render(figure, name, size="auto")
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    with pytest.raises(ScopeError, match="exists"):
        save(figure, path)


def test_save_with_options(figure, tmp_path):
    path = save(figure, tmp_path / "b", format="txt", size=(50, 6), focus=Focus(layer=0))
    assert len(path.read_text().splitlines()) == 6
    assert "▸0" in path.read_text()


def test_an_unknown_suffix_or_format_names_those_there_are(figure, tmp_path):
    with pytest.raises(ScopeError) as caught:
        format_of(tmp_path / "a.jpeg")
    assert "svg" in caught.value.hint
    with pytest.raises(ScopeError, match="jpeg"):
        render(figure, "jpeg")


def test_exports_are_the_same_every_time(figure):
    for name in ("json", "npz", "txt", "ansi", "svg"):
        assert render(figure, name) == render(figure, name)


def test_a_figure_of_many_layers_is_cut_to_a_screen():
    axes = (Axis("layer", tuple(map(str, range(80)))), Axis("position", ("a", "b")))
    figure = Figure("any", "Any", "heatmap", axes, np.zeros((80, 2), np.float32), "x")
    assert len(render(figure, "txt").splitlines()) == 30
    assert len(render(figure, "txt", size=(50, 85)).splitlines()) == 85


@pytest.mark.parametrize("theme", ["dark", "abyss", "vellum"])
@pytest.mark.parametrize("name", ["svg", "html"])
def test_without_colours_a_page_is_black_white_and_grey(figure, name, theme):
    look = RenderOptions(load_theme(theme), "none")
    page = render(figure, name, look=look)
    colours = set(re.findall(r"#[0-9a-f]{6}", page))
    assert colours
    assert all(one[1:3] == one[3:5] == one[5:7] for one in colours), colours
    in_colour = set(re.findall(r"#[0-9a-f]{6}", render(figure, name, look=RenderOptions())))
    assert any(one[1:3] != one[3:5] for one in in_colour)


def test_without_colours_ansi_and_png_have_none(figure):
    look = RenderOptions(tier="none")
    assert not re.search(r"\x1b\[[\d;]*[34]8;", render(figure, "ansi", look=look))
    pytest.importorskip("resvg_py")
    pixels = np.asarray(opened(render(figure, "png", look=look)).convert("RGB"))
    assert (pixels.max(axis=-1) - pixels.min(axis=-1)).max() == 0
    coloured = np.asarray(opened(render(figure, "png")).convert("RGB")).astype(int)
    assert (coloured.max(axis=-1) - coloured.min(axis=-1)).max() > 20


def opened(data):
    image = pytest.importorskip("PIL.Image")
    return image.open(io.BytesIO(data))


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("variable", "options", "grey"),
    [("1", (), True), ("", (), False), ("1", ("--color", "truecolor"), False), ("", NONE, True)],
)
def test_no_color_holds_in_files_unless_an_option_says_otherwise(
    tmp_path, monkeypatch, variable, options, grey
):
    monkeypatch.setenv("NO_COLOR", variable)
    ask = ("snapshot", "builtin:sort", "--prompt", "CAB", "--lens", "attention", *options)
    for name in ("svg", "html", "ansi"):
        file = tmp_path / f"{name}.{name}"
        assert run(*ask, "--out", file).exit_code == 0
        text = file.read_text()
        if name == "ansi":
            assert bool(re.search(r"\x1b\[[\d;]*[34]8;", text)) != grey
        else:
            colours = re.findall(r"#[0-9a-f]{6}", text)
            assert all(one[1:3] == one[3:5] == one[5:7] for one in colours) == grey
