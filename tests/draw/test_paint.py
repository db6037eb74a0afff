"""Whatever a figure holds, in whatever room: exact sizes, and nothing that acts."""

import cProfile
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.cells import cell_len

from llmscope.draw import RenderOptions, load_theme, natural_height, paint
from llmscope.figure import Axis, Figure, Focus

NASTY = (
    "",
    " the",
    "\n",
    "[/nope]",
    "[@click=app.quit]x",
    "\x1b[31mred\x1b[0m",
    "\x9b2J",
    "‮abc",
    "​",
    "日本語",
    "👩‍👩‍👧",
    "é",
    "́",
    "🏽",
    "\t\r",
    "ﷺ",
)
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

labels = st.one_of(st.sampled_from(NASTY), st.text(max_size=6))
looks = st.builds(
    RenderOptions,
    st.sampled_from([load_theme("dark"), load_theme("light")]),
    st.sampled_from(["truecolor", "256", "16", "none"]),
    st.booleans(),
)
AXES = {
    "heatmap": [
        ("layer", "position"),
        ("query", "key"),
        ("position", "neuron"),
        ("a", "b"),
        ("x",),
    ],
    "bars": [("token",), ("component",), ("layer", "head")],
    "lines": [("position",), ("series", "position")],
    "tokens": [("position",)],
    "table": [("matrix",), ("matrix", "what"), ("head", "query", "key")],
}


@st.composite
def figures(draw):
    kind = draw(st.sampled_from(sorted(AXES)))
    names = draw(st.sampled_from(AXES[kind]))
    lengths = [draw(st.integers(0, 7)) for _ in names]
    axes = []
    for name, length in zip(names, lengths, strict=True):
        some = tuple(draw(st.lists(labels, min_size=length, max_size=length)))
        axes.append(Axis(name, tuple(map(str, range(length))) if name == "layer" else some))
    values = draw(arrays(np.float32, tuple(lengths)))
    unit = draw(st.sampled_from(["probability", "bits", "norm", "", "[/b]\x1b"]))
    extra = {"ids": np.arange(lengths[0])}
    if names == ("layer", "position") and draw(st.booleans()):
        extra["ids"] = np.arange(lengths[0] * lengths[1]).reshape(lengths) - 1
        extra["names"] = {number: draw(labels) for number in range(lengths[0] * lengths[1])}
    if draw(st.booleans()):
        extra["caption"] = tuple(draw(st.lists(labels, max_size=3)))
    return Figure("any", draw(labels), kind, tuple(axes), values, unit, extra=extra)


@settings(max_examples=400, deadline=None)
@given(
    figure=figures(),
    width=st.integers(1, 90),
    height=st.integers(1, 20),
    look=looks,
    layer=st.integers(-4, 3),
    position=st.integers(-7, 6),
    stale=st.booleans(),
)
def test_any_figure_fits_any_room_and_is_harmless(
    figure, width, height, look, layer, position, stale
):
    focus = Focus(layer=layer, position=position)
    tokens = None
    if figure.axes[-1].name == "position":
        bits = np.linspace(0, 9, len(figure.axes[-1]), dtype=np.float32)
        tokens = Figure("tokens", "", "tokens", figure.axes[-1:], bits, "bits")
    painting = paint(figure, width, height, look, focus, tokens=tokens, stale=stale)
    assert len(painting.rows) == height
    for row in painting.rows:
        assert sum(cell_len(segment.text) for segment in row) == width
    for row in (*painting.rows, painting.legend or ()):
        text = "".join(segment.text for segment in row)
        assert not {char for char in text if unicodedata.category(char) in HIDDEN}
        assert all(segment.style is not None for segment in row)
        if look.ascii:
            assert text.isascii()
    for column, (name, index) in painting.across.items():
        assert column >= 0
        assert index < len(figure.axes[figure.axis(name)])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (20, 4), (60, 9)])
def test_a_refused_figure_says_why(read, plain, size):
    figure = Figure.refused("attention", "Attention", "this model has no attention [/b]")
    rows = read(paint(figure, *size, plain))
    assert [len(row) for row in rows] == [size[0]] * size[1]
    if size[0] == 60:
        assert "this model has no attention [/b]" in rows[4]


def test_too_small_is_an_error(residual, plain):
    with pytest.raises(ValueError, match="0 × 5"):
        paint(residual, 0, 5, plain)


def test_leading_axes_are_cut_at_the_focus(plain):
    values = np.zeros((3, 1, 2, 2), dtype=np.float32)
    values[1] = 7
    axes = (Axis("head", ("0", "1", "2")), *(Axis(name, ("p", "q")) for name in "ab"))
    figure = Figure("any", "Any", "heatmap", (axes[0], Axis("c", ("r",)), *axes[1:]), values, "x")
    for head, value in ((0, "0"), (1, "7"), (2, "0")):
        legend = paint(figure, 40, 6, plain, Focus(head=head)).legend
        assert "".join(segment.text for segment in legend).split()[::2] == ["x", "░▒▓█"]
        assert f" {value} " in "".join(segment.text for segment in legend)


def test_stale_pictures_are_dim_and_say_the_same(residual, read):
    look = RenderOptions()
    fresh, stale = (paint(residual, 60, 8, look, stale=stale) for stale in (False, True))
    assert read(fresh) == read(stale)
    styles = [{s.style for row in painting.rows for s in row} for painting in (fresh, stale)]
    assert not styles[0] & styles[1]
    dim = paint(residual, 60, 8, RenderOptions(tier="16"), stale=True)
    assert all(segment.style.dim for row in dim.rows for segment in row)


def test_a_table_shows_its_numbers(read, plain):
    axes = (Axis("matrix", ("q", "k")),)
    figure = Figure("any", "Any", "table", axes, np.array([1.5, -20], np.float32), "")
    assert [row.split() for row in read(paint(figure, 30, 2, plain))] == [
        ["q", "1.50"],
        ["k", "-20.00"],
    ]


def test_curves_carry_their_ends_and_names(read, plain):
    axes = (Axis("series", ("one", "two")), Axis("position", ("a", "b", "c")))
    values = np.array([[0, 1, 2], [4, 2, -3]], np.float32)
    figure = Figure("any", "Any", "lines", axes, values, "bits")
    painting = paint(figure, 30, 6, plain)
    rows = read(painting)
    assert rows[0].startswith(" 4 ")
    assert rows[4].startswith("-3 ")
    assert rows[5].split() == ["a", "position", "c"]
    assert "".join(s.text for s in painting.legend) == "bits  a one  b two"
    # Where no colour tells them from each other, each is drawn of its own letter.
    assert rows[4].rstrip().endswith("b")
    assert set("".join(row[3:] for row in rows[:5])) == {" ", "a", "b"}
    coloured = paint(figure, 30, 6, RenderOptions())
    assert "".join(s.text for s in coloured.legend) == "bits  ━one  ━two"
    styles = [s.style for s in coloured.legend if "━" in s.text]
    assert styles[0] != styles[1]


def test_each_point_of_a_curve_has_its_label_below_it_where_there_is_room(read, plain):
    axes = (Axis("examples", tuple("0123456")),)
    figure = Figure("any", "Any", "lines", axes, np.arange(7, dtype=np.float32), "bits")
    rows = read(paint(figure, 40, 9, plain))
    assert rows[7].split() == list("0123456")
    assert rows[8].strip() == "examples"
    # Where the curve has a peak at one point alone, that point's label stands below it.
    for index in range(7):
        peak = replace(figure, values=np.eye(7, dtype=np.float32)[index])
        rows = read(paint(peak, 40, 9, RenderOptions(ascii=True)))
        columns = [column for column, glyph in enumerate(rows[0]) if glyph == "*"]
        assert min(abs(column - rows[7].find(str(index))) for column in columns) <= 1
    assert read(paint(figure, 40, 7, plain))[6].split() == ["0", "examples", "6"]
    assert read(paint(figure, 14, 9, plain))[8].split() == ["0", "examples", "6"]


def test_as_many_curves_are_named_as_the_border_holds(plain):
    names = tuple(f"curve {index}" for index in range(12))
    axes = (Axis("series", names), Axis("step", ("0", "1")))
    figure = Figure("any", "Any", "lines", axes, np.zeros((12, 2), np.float32), "bits")
    for width in (20, 40, 80):
        legend = "".join(s.text for s in paint(figure, width, 9, plain).legend)
        assert len(legend) <= width - 4
        assert legend.endswith("…")
        assert "a curve 0" in legend or width == 20


def test_a_caption_stands_below_as_far_as_there_is_room(read, plain):
    extra = {"caption": ("first of all\x1b[2J", "a second remark that is rather long", "third")}
    axes = (Axis("row", tuple("abcdefgh")), Axis("column", ("x", "y")))
    values = np.arange(16, dtype=np.float32).reshape(8, 2)
    figure = Figure("any", "Any", "heatmap", axes, values, "norm", extra=extra)
    rows = read(paint(figure, 30, 16, plain))
    assert rows[12].strip() == "first of all\\x1b[2J"
    assert [row.strip() for row in rows[13:]] == ["a second remark that is rather", "long", "third"]
    assert rows[1].split()[0] == "a"
    rows = read(paint(figure, 30, 7, plain))
    assert rows[6].strip() == "first of all\\x1b[2J"
    assert not any("first" in row for row in read(paint(figure, 30, 3, plain)))
    token = replace(figure, extra={"caption": ("the answer: ·white↵",)})
    assert read(paint(token, 30, 9, plain))[8].strip() == "the answer: ·white↵"
    assert (
        read(paint(token, 30, 9, RenderOptions(ascii=True)))[8].strip() == "the answer: _white\\n"
    )
    height = natural_height(figure, 30)
    assert "third" in read(paint(figure, 30, height, plain))[-1]
    shown = [row.split() for row in read(paint(figure, 30, height, plain))]
    assert {words[0].strip("▸") for words in shown if words} > set("abcdefgh")


def test_a_caption_takes_the_rows_that_the_picture_cannot_use(read, plain):
    said = "one two three four five six seven eight nine ten eleven twelve"
    axes = (Axis("part", ("a", "b")),)
    extra = {"caption": (said,)}
    figure = Figure("any", "Any", "bars", axes, np.ones(2, np.float32), "norm", extra=extra)
    rows = read(paint(figure, 20, 8, plain))
    assert " ".join(" ".join(rows[4:]).split()) == said
    assert [row.split()[0] for row in rows[:2]] == ["a", "b"]
    short = read(paint(figure, 20, 6, plain))
    assert [row.split()[0] for row in short[:2]] == ["a", "b"]
    assert short[-1].rstrip().endswith("…")


def test_cells_too_narrow_for_their_numbers_show_colour_alone(read, plain):
    axes = (Axis("layer", ("0", "1")), Axis("prefix", tuple("abcdefgh")))
    values = np.linspace(0.002, 0.045, 16, dtype=np.float32).reshape(2, 8)
    figure = Figure("any", "Any", "heatmap", axes, values, "norm")
    assert "0.045" in "".join(read(paint(figure, 80, 3, plain)))
    narrow = read(paint(figure, 50, 3, plain))
    assert not any("." in row for row in narrow)
    assert "█████" in narrow[2]


def test_a_heatmap_names_what_runs_across(plain):
    axes = (Axis("layer", ("0", "1")), Axis("prefix", (" two words\nand more", "\n")))
    figure = Figure("any", "Any", "heatmap", axes, np.zeros((2, 2), np.float32), "norm")
    painting = paint(figure, 60, 6, plain)
    assert "".join(s.text for s in painting.legend).endswith("· across: prefix")
    head = "".join(s.text for s in painting.rows[0])
    assert head.split() == ["layer", "two", "words…", "↵"]


def test_natural_height_is_what_shows_all(residual, next_token, attention, neurons, tokens):
    assert [natural_height(f) for f in (residual, next_token, attention, neurons, tokens)] == [
        7,
        5,
        8,
        4,
        6,
    ]


def test_a_map_costs_little_for_each_cell():
    """Counted, not timed: calls of Python functions for 36 × 120 cells, surprisal and labels."""
    labels = tuple(f" t{i}" for i in range(120))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(36, 120)).astype(np.float32)
    axes = (Axis("layer", tuple(map(str, range(36)))), Axis("position", labels))
    figure = Figure("any", "Any", "heatmap", axes, values, "norm")
    paint(figure, 120, 40, RenderOptions(), Focus(position=0))
    calls = []
    for position in range(1, 4):
        with cProfile.Profile() as profile:
            paint(figure, 120, 40, RenderOptions(), Focus(position=position))
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert max(calls) < 5 * values.size


def test_without_colours_no_mark_stands_before_a_minus():
    axes = (Axis("layer", ("0", "1")), Axis("head", ("0", "1", "2")))
    values = np.array([[-0.03, -0.02, -0.01], [0.0, 0.0, 0.05]], dtype=np.float32)
    figure = Figure("any", "Any", "heatmap", axes, values, "logit")
    painting = paint(figure, 60, 8, RenderOptions(tier="none"), Focus(layer=1))
    grid = "\n".join("".join(part.text for part in row) for row in painting.rows[:-1])
    assert grid.count("-0.0") == 3
    assert grid.count("  -0.0") == 3
    assert "█  0.05" in grid, "a number without a sign keeps its mark"
