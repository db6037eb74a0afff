"""Long form: each value once, beside the labels and places that it belongs to."""

import sys

import numpy as np
import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.figure import Axis, Figure
from llmscope.lenses import lens, names

PROMPTS = {
    "builtin:sort": ("CABACB", "CABABB"),
    "builtin:town": ("cat -> kitten, dog -> puppy, cow ->", "cat -> kitten, dog -> puppy, hen ->"),
}
# What these lenses are of nothing without.
ASKED = {"contrast": "versus_prompt", "patching": "versus_prompt"}


@pytest.fixture(scope="module", params=PROMPTS)
def figures(request):
    """Every lens in every mode that the model can show of one prompt, and two at other places."""
    scope = llmscope.load(request.param)
    prompt, other = PROMPTS[request.param]
    scope.record(prompt)
    made = []
    for name in names():
        focus = {"versus_prompt": scope.prompt(other).ids} if name in ASKED else {}
        made += [scope.look(name, mode=mode, **focus) for mode in lens(name).modes or ("",)]
    made += [scope.look("attention", span=(2, 5)), scope.look("attention", pool=2)]
    return made


def columns_of(figure):
    """The names of the two columns of each axis."""
    return [(axis.name, f"{axis.name}_index") for axis in figure.axes]


@pytest.mark.few(1)
def test_every_value_stands_beside_its_labels_and_places(figures):
    shown = [figure for figure in figures if figure.verdict.status != "refused"]
    assert {figure.kind for figure in shown} >= {"heatmap", "bars", "tokens", "table"}
    assert {axis.step for figure in shown for axis in figure.axes} == {1, 2}
    assert {axis.start for figure in shown for axis in figure.axes} >= {0, 2}
    for figure in shown:
        columns = figure.tidy()
        assert list(columns) == [name for both in columns_of(figure) for name in both] + ["value"]
        assert {len(column) for column in columns.values()} == {figure.values.size}
        again = np.full_like(figure.values, -1)
        for row, value in enumerate(columns["value"]):
            at = []
            for axis, (name, place) in zip(figure.axes, columns_of(figure), strict=True):
                index = axis.index(columns[place][row])
                assert columns[name][row] == axis.labels[index]
                at.append(index)
            again[tuple(at)] = value
        np.testing.assert_array_equal(again, figure.values)


def test_a_refused_figure_has_columns_and_no_rows(figures):
    refused = next(figure for figure in figures if figure.verdict.status == "refused")
    assert {name: len(column) for name, column in refused.tidy().items()} == {"value": 0}


def test_a_number_alone_is_one_row():
    alone = Figure("any", "Any", "table", (), np.array(2.5, np.float32), "x")
    assert {name: list(column) for name, column in alone.tidy().items()} == {"value": [2.5]}


def test_names_that_are_taken_get_a_number():
    axes = (Axis("value", ("a",)), Axis("token", ("b",)), Axis("token", ("c", "d"), 5))
    figure = Figure("any", "Any", "heatmap", axes, np.array([[[1, 2]]], np.float32), "x")
    assert {name: list(column) for name, column in figure.tidy().items()} == {
        "value_2": ["a", "a"],
        "value_2_index": [0, 0],
        "token": ["b", "b"],
        "token_index": [0, 0],
        "token_2": ["c", "d"],
        "token_2_index": [5, 6],
        "value": [1, 2],
    }


def test_columns_can_be_written_to_and_the_figure_stands():
    values = np.array([1, 2], np.float32)
    figure = Figure("any", "Any", "bars", (Axis("token", ("a", "b")),), values, "x")
    figure.tidy()["value"][:] = 9
    assert figure.values.tolist() == [1, 2]


def test_a_data_frame_turns_back_into_the_figure(figures):
    pandas = pytest.importorskip("pandas")
    for figure in figures:
        frame = figure.to_pandas()
        assert frame["value"].dtype == np.float32
        assert frame.attrs["lens"] == figure.lens
        assert frame.attrs["verdict"] == figure.verdict.status
        if len(figure.axes) == 2:
            (_, down), (_, across) = columns_of(figure)
            table = frame.pivot(index=down, columns=across, values="value")
            np.testing.assert_array_equal(table.to_numpy(), figure.values)
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(figure.tidy()))


def test_other_packages_take_it_too(figures):
    polars = pytest.importorskip("polars")
    pytest.importorskip("xarray")
    for figure in figures:
        assert polars.DataFrame(figure.tidy())["value"].len() == len(figure.tidy()["value"])
        if figure.axes and figure.values.size:
            places = [place for _, place in columns_of(figure)]
            array = figure.to_pandas().set_index(places)["value"].to_xarray()
            assert array.dims == tuple(places)
            np.testing.assert_array_equal(array.to_numpy(), figure.values)


def test_without_pandas_it_says_what_to_install(figures, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ScopeError, match="pandas") as caught:
        figures[0].to_pandas()
    assert "pip install pandas" in caught.value.hint
