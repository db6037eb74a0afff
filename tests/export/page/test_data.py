"""What the script is given: every number as it is, every text harmless, and what is told of it."""

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmscope.draw import RenderOptions, load_theme, theme_names
from llmscope.draw.scale import Scale
from llmscope.export.page import data as module
from llmscope.export.page.colors import colors_of
from llmscope.export.page.data import pack_numbers, page_data
from llmscope.export.page.document import data_text
from llmscope.figure import Axis, Figure, Focus
from tests.export.page.conftest import HOSTILE, TOKENS, array, attention, every_kind

LOOK = RenderOptions()


def unpacked(record):
    data = zlib.decompress(base64.b64decode(record["data"]))
    return np.frombuffer(data, dtype="<" + record["type"])


def records(*figures, **more):
    """The records as a page holds them."""
    return json.loads(data_text(page_data(figures, LOOK, **more)))["figures"]


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True),
    )
)
def test_values_come_back_exactly(values):
    axes = tuple(
        Axis(f"axis {n}", tuple(map(str, range(size)))) for n, size in enumerate(values.shape)
    )
    (record,) = records(Figure("any", "Any", "heatmap", axes, values, "x"))
    found = unpacked(record["values"])
    np.testing.assert_array_equal(found.reshape(values.shape), values)
    told = [note for note in record["notes"] if "infinite" in note]
    assert bool(told) == bool(np.isinf(values).any())


def test_large_whole_numbers_keep_their_digits():
    ids = np.array([2**40 + 1, 7])
    assert unpacked(pack_numbers(ids, "<f8")).tolist() == [2**40 + 1, 7]


@pytest.mark.parametrize("figure", every_kind(), ids=lambda one: one.title)
def test_each_kind_is_told_in_full(figure):
    (record,) = records(figure)
    if figure.verdict.status == "refused":
        assert record["draw"] == "message"
        assert record["message"].startswith("it is refused: <img")
        return
    assert record["draw"] == figure.kind
    assert [len(axis["labels"]) for axis in record["axes"]] == list(figure.values.shape)
    np.testing.assert_array_equal(
        unpacked(record["values"]).reshape(figure.values.shape), figure.values
    )
    if "scale" in record and "examples" not in record:
        signed = bool((figure.values < 0).any())
        assert (record["scale"]["kind"] == "signed") == signed
    if "table" in record:
        table = record["table"]
        shown = [one for one in table["values"] if one is not None]
        wide = figure.values.shape[1] if figure.values.ndim > 1 else 1
        assert sorted(shown) == list(range(wide))
        assert {len(column) for column in table["columns"]} == {len(figure.values)}


def test_words_are_those_of_the_cells():
    logit_lens = every_kind()[1]
    (record,) = records(logit_lens)
    words, places = record["words"]["list"], record["words"]["places"]
    names = logit_lens.extra["names"]
    found = [words[place] for place in places]
    ids = logit_lens.extra["ids"].ravel().tolist()
    assert [word == "·Paris" for word in found] == [names[one] == " Paris" for one in ids]


def test_the_other_arrays_of_a_figure_are_told_beside_its_values():
    (record,) = records(every_kind()[0])
    told = {one["name"]: unpacked(one).tolist() for one in record["details"]}
    assert told == {"token id": [1, 2, 3, 4, 5]}


@given(st.text(), st.integers(0, 7))
def test_no_text_leaves_the_data_or_reaches_it_as_it_came(text, where):
    axes = (Axis(text or "a", (text, "x")), Axis("position", (text, "y")))
    extra = {"caption": (text,), "ids": np.zeros((2, 2)), "names": {0: text}}
    figure = Figure(text, text, "heatmap", axes, array([[1, 2], [3, 4]]), text, extra=extra)
    data = data_text(page_data([figure, Figure.refused(text, text, text)], LOOK))
    assert data.isascii()
    assert not set("<>&") & set(data)
    for said in strings(json.loads(data)):
        assert not any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in said)
        assert not set("\u202e\u2066\u200b\x7f\x9b") & set(said)


def strings(value):
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from strings(one)


def test_the_cursor_starts_at_the_focus():
    data = page_data([attention()], LOOK, Focus(position=-2, head=1))
    assert (data["tokens"], data["cursor"]) == (["The", "·capital", "·of", "·France", "·is"], 3)
    assert data["figures"][0]["axes"][0]["at"] == 1


def test_the_cursor_starts_at_the_cell_of_a_step():
    axes = (Axis("position", TOKENS), Axis("dimension", tuple("0123")))
    extra = {"seen": (2, 3), "cell": {"at": (2, 3)}}
    step = Figure("walkthrough", "Step", "heatmap", axes, array(np.zeros((5, 4))), "", extra=extra)
    focus = Focus(position=4, cell=(2, 3))
    data = page_data([step], LOOK, focus)
    assert data["cursor"] == 2
    assert [axis["at"] for axis in data["figures"][0]["axes"]] == [2, 3]


def test_tokens_are_those_of_the_prompt_where_it_is_known():
    about = {"tokens": [{"text": text} for text in (*TOKENS, HOSTILE[2])]}
    tokens = page_data([attention()], LOOK, about=about)["tokens"]
    assert len(tokens) == 6
    assert "\x1b" not in tokens[-1]
    assert page_data([every_kind()[5]], LOOK, about=about)["tokens"] == [], "no figure has them"


def test_what_is_too_large_is_left_to_the_picture(monkeypatch):
    long = Axis("position", tuple(map(str, range(module.LONGEST_AXIS + 1))))
    figure = Figure("any", "Any", "bars", (long,), np.zeros(len(long), np.float32), "x")
    (record,) = records(figure)
    assert (record["draw"], record["message"]) == ("picture", "position 8,193")
    assert "values" not in record
    monkeypatch.setattr(module, "MOST_VALUES", 80)
    assert [one["draw"] for one in records(attention(), attention())] == ["heatmap", "picture"]


@pytest.mark.parametrize("theme", theme_names())
def test_positive_is_the_colour_of_the_screen_in_each_theme(theme):
    found = colors_of(RenderOptions(load_theme(theme)))
    ramp, theme_ = found["diverging"], load_theme(theme)
    assert len(ramp) % 2 == 1
    assert ramp[0][0] == theme_.negative[-1]
    assert ramp[-1][0] == theme_.positive[-1]
    assert ramp[len(ramp) // 2][0] == theme_.positive[0]
    assert found["marks"] == (theme == "monochrome")


def test_without_colours_all_is_grey_and_signs_are_marked():
    found = colors_of(RenderOptions(tier="none"))
    shades = [found["sequential"], found["diverging"], [list(found["look"].values())]]
    for pair in (pair for ramp in shades for pair in ramp):
        for color in pair:
            assert len({color[1:3], color[3:5], color[5:7]}) == 1, color
    assert found["marks"]


def test_the_scale_is_that_of_the_drawing():
    values = array([[1e-6, 1], [0.5, 2]])
    axes = (Axis("layer", ("0", "1")), Axis("part", ("a", "b")))
    (record,) = records(Figure("any", "Any", "heatmap", axes, values, "norm"))
    scale = Scale.of(values, "norm")
    assert record["scale"] == {"kind": "log", "low": scale.low, "high": scale.high}
