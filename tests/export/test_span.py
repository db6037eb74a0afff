"""A picture or a file of a span has the columns of that span, and nothing else changes."""

import numpy as np
import pytest

import llmscope
from llmscope.export import render, save
from llmscope.export.read import read
from llmscope.export.span import crop_to_span
from llmscope.figure import Axis, Figure, Focus
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8, 8]


@pytest.fixture(scope="module")
def figure():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    return scope.look("logit-lens", span=(3, 6), position=4)


def test_the_columns_of_the_span_stay_with_their_numbers_and_words(figure):
    cut = crop_to_span(figure, Focus(span=(3, 6), position=4))
    assert (cut.axes[1].start, len(cut.axes[1])) == (3, 3)
    assert cut.axes[1].labels == figure.axes[1].labels[3:6]
    np.testing.assert_array_equal(cut.values, figure.values[:, 3:6])
    np.testing.assert_array_equal(cut.extra["ids"], figure.extra["ids"][:, 3:6])
    assert np.isfinite(cut.values).all()
    assert cut.extra["names"] == figure.extra["names"]


def test_the_span_is_what_it_says_where_the_focus_is_beyond_it():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    figure = scope.look("logit-lens", span=(3, 5), position=7)
    cut = crop_to_span(figure, Focus(span=(3, 5), position=7))
    assert (cut.axes[1].start, cut.axes[1].stop) == (3, 5)
    assert np.isfinite(figure.values[:, 3:5]).all()
    assert np.isnan(np.delete(figure.values, (3, 4), axis=1)).all()


@pytest.mark.parametrize("focus", [None, Focus(), Focus(span=(0, 8))])
def test_without_a_span_nothing_is_left_out(figure, focus):
    whole = Figure(
        "any",
        "t",
        "heatmap",
        (Axis("layer", ("0",)), Axis("position", ("a", "b"))),
        np.array([[1.0, np.nan]], np.float32),
        "logit",
    )
    if focus is None or focus.span is None:
        assert crop_to_span(figure, focus) is figure
        assert crop_to_span(whole, focus) is whole


def test_a_figure_without_positions_or_numbers_is_left_alone():
    layers = Axis("layer", ("0", "1"))
    for axes, values in (
        ((layers, Axis("head", ("0", "1"))), [[np.nan, 1], [np.nan, 2]]),
        ((layers, Axis("position", ("a", "b"))), [[np.nan, np.nan], [np.nan, np.nan]]),
        ((Axis("position", ("a", "b")),), [np.nan, 1]),
    ):
        one = Figure("any", "t", "heatmap", axes, np.array(values, np.float32), "logit")
        assert crop_to_span(one, Focus(span=(1, 2))) is one


def test_pictures_have_the_columns_of_the_span(figure):
    focus = Focus(span=(3, 6), position=4)
    text = render(figure, "txt", focus=focus)
    labels = [label.strip() for label in figure.axes[1].labels]
    header = text.splitlines()[1].strip("│").replace("▸", "").split()
    assert header == ["layer", *labels[3:6]]


def test_paper_plots_the_columns_of_the_span(figure):
    pytest.importorskip("matplotlib")
    from llmscope.export.paper import paper

    focus = Focus(span=(3, 6), position=4)
    page = paper([crop_to_span(figure, focus)], focus=focus)
    (axes,) = [one for one in page.get_axes() if one.get_label() != "<colorbar>"]
    assert axes.get_xlim() == (0.0, 3.0)
    assert len(axes.texts) == 3 * len(figure.axes[0])
    assert {round(text.get_fontsize(), 1) for text in axes.texts} <= {7.0}


@pytest.mark.parametrize("suffix", ["json", "npz", "safetensors"])
def test_files_of_numbers_have_the_columns_of_the_span(figure, tmp_path, suffix):
    focus = Focus(span=(3, 6), position=4)
    path = save(figure, tmp_path / f"a.{suffix}", focus=focus)
    (back,) = read(path).figures
    assert (back.axes[1].start, back.axes[1].labels) == (3, figure.axes[1].labels[3:6])
    np.testing.assert_array_equal(back.values, figure.values[:, 3:6])
    table = render(figure, "csv", focus=focus).splitlines()
    places = {line.split(",")[2] for line in table[1:]}
    assert places == {"3", "4", "5"}
