"""Strips: each cell is the strongest of its tokens, and the track shows window and cursor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.draw import RenderOptions, paint
from llmscope.draw.cells import Line
from llmscope.draw.kinds import kind_of
from llmscope.draw.painters.query import paint_query
from llmscope.draw.painters.strip import (
    add_strip,
    add_track,
    strip_scale,
    strongest_of_blocks,
    tokens_per_cell,
)
from llmscope.draw.styles import styles_for
from llmscope.figure import Axis, Figure, Focus
from llmscope.tui.state.token_measures import MEASURES
from llmscope.tui.widgets.overview_strip import GUTTER, strip_rows

COLOURED, PLAIN = styles_for(RenderOptions()), styles_for(RenderOptions(tier="none"))
ASCII = styles_for(RenderOptions(tier="none", ascii=True))


@given(st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), max_size=50), st.integers(1, 9))
def test_a_block_is_its_strongest(values, size):
    found = strongest_of_blocks(np.array(values, dtype=np.float32), size)
    blocks = [values[at : at + size] for at in range(0, len(values), size)]
    assert len(found) == len(blocks)
    for one, block in zip(found.tolist(), blocks, strict=True):
        known = [abs(value) for value in block if value == value]
        assert np.isnan(one) if not known else abs(one) == pytest.approx(max(known))


@given(st.integers(1, 9000), st.integers(1, 200))
def test_all_tokens_fit(count, cells):
    for styles in (COLOURED, PLAIN):
        per = tokens_per_cell(count, cells, styles)
        assert per * cells >= count


def drawn(values, cells, styles):
    per = tokens_per_cell(len(values), cells, styles)
    line = add_strip(
        Line(), np.array(values, dtype=np.float32), cells, strip_scale(1.0), styles, per_cell=per
    )
    return line.row(cells, styles.base)


def test_half_a_cell_has_its_own_colour():
    ramp = COLOURED.sequential.styles
    (low, high, same, *_) = drawn([0, 1, 1, 0, 1, 1], 3, COLOURED)
    assert (low.text, low.style.color, low.style.bgcolor) == (
        "▌",
        ramp[0].bgcolor,
        ramp[-2].bgcolor,
    )
    assert (high.text, high.style.color) == ("▌", ramp[-2].bgcolor)
    assert (same.text, same.style) == (" ", ramp[-2])


def test_without_colours_it_has_heights():
    text = "".join(part.text for part in drawn([0, 0.5, 1, float("nan")], 4, PLAIN))
    assert text == "▁▅█ "
    assert "".join(part.text for part in drawn([0, 1], 2, ASCII)) == ".@"


def test_the_track_shows_window_and_cursor():
    line = add_track(Line(), 10, 8, PLAIN, per_cell=2, cursor=7, window=(2, 6))
    assert "".join(part.text for part in line.row(8, PLAIN.base)) == "─━━▴─   "


@pytest.mark.parametrize("styles", [COLOURED, PLAIN, ASCII])
@pytest.mark.parametrize("width", [1, 10, 40, 120])
def test_two_full_rows(styles, width):
    values = np.linspace(0, 12, 300).astype(np.float32)
    figure = Figure(
        "tokens", "", "tokens", (Axis("position", (" a",) * 300),), values, "bits", extra={}
    )
    for shown in (figure, None, Figure.refused("contrast", "", "no \x1b prompt B")):
        rows = strip_rows(shown, MEASURES[0], width, styles, cursor=30, window=(20, 40))
        for row in rows:
            text = "".join(part.text for part in row)
            assert cell_len(text) == width
            assert "\x1b" not in text
            assert styles is not ASCII or text.isascii()
    texts = [
        "".join(part.text for part in row)
        for row in strip_rows(figure, MEASURES[0], 120, styles, cursor=30, window=(20, 40))
    ]
    assert f"{float(values[30]):.3f} bits"[:4] in texts[0][:GUTTER]
    assert texts[1][:GUTTER].startswith(" 0 ")
    assert " 12 max of " in texts[1][:GUTTER]


def one_query(count=200, heads=3, query=150):
    random = np.random.default_rng(1)
    values = np.full((heads, 1, count), np.nan, dtype=np.float32)
    values[:, 0, : query + 1] = random.dirichlet(np.full(query + 1, 0.05), heads)
    values[:, 0, 120] = 0.9
    labels = tuple(f" w{at}" for at in range(count))
    axes = (
        Axis("head", tuple(map(str, range(heads)))),
        Axis("query", (labels[query],), query),
        Axis("key", labels),
    )
    return Figure("attention", "", "heatmap", axes, values, "probability", extra={"layer": 1})


@pytest.mark.parametrize("look", [RenderOptions(), RenderOptions(tier="none", ascii=True)])
@pytest.mark.parametrize("size", [(100, 20), (50, 12), (20, 5), (6, 3), (1, 1)])
def test_one_query_is_painted_to_the_cell(look, size):
    figure = one_query()
    assert kind_of(figure, Focus()).paint is paint_query
    painting = paint(figure, *size, look, Focus(head=1, position=150))
    assert len(painting.rows) == size[1]
    for row in painting.rows:
        assert sum(part.cell_length for part in row) == size[0]


def test_the_strongest_keys_are_listed_with_their_places():
    figure = one_query()
    painting = paint(figure, 100, 20, RenderOptions(), Focus(head=1, position=150))
    texts = ["".join(part.text for part in row) for row in painting.rows]
    assert texts[0].startswith(" mean ")
    assert texts[2].startswith("▸   1 ")
    at = next(index for index, text in enumerate(texts) if "looks most at" in text)
    mean = figure.values[:, 0].mean(0)
    best = np.argsort(-np.nan_to_num(mean))[:8]
    for row, key in enumerate(best.tolist(), at + 1):
        value = f"{float(mean[key]):.2f}".lstrip("0")
        assert texts[row].split()[:2] == [value, f"{key:,}"]
        assert f"·w{key}" in texts[row]
        assert painting.hit(2, row) == {"position": key}
    assert painting.hit(30, 2)["head"] == 1
