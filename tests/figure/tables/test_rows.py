"""Figures as rows: every cell is where its axes say, and holds the figure's number."""

import io
import math

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.figure import LAYER_HEAD, Axis, Figure
from llmscope.figure.tables import key, number
from llmscope.figure.tables.arrow import TableWriter, columns_in, described_in, input_names
from llmscope.figure.tables.column import Column
from llmscope.figure.tables.rows import rows, token_classes

VALUE = (number("value", "a number"),)


def figure(axes, values, **extra):
    return Figure("some", "", "heatmap", tuple(axes), np.array(values, np.float32), "", extra=extra)


def table(figures, columns=VALUE, inputs=(), length=9):
    import pyarrow

    writer = TableWriter("some", "", columns, {name: pyarrow.string() for name in inputs})
    for line, one in enumerate(figures, 1):
        writer.add(one, line, length, {name: f"{name}{line}" for name in inputs})
    return parquet.read_table(io.BytesIO(writer.finish()))


def test_each_cell_is_a_row_where_its_axes_say():
    values = np.arange(6.0).reshape(3, 2)
    axes = (Axis("layer", ("embed", "0", "1")), Axis("position", (" a", "b"), start=7))
    found = table([figure(axes, values)]).to_pylist()
    expected = [
        {"layer": layer, "position": 7 + column, "token": (" a", "b")[column], "value": value}
        for layer, row in zip((-1, 0, 1), values, strict=True)
        for column, value in enumerate(row)
    ]
    assert [{name: row[name] for name in expected[0]} for row in found] == expected
    assert [row["from_end"] for row in found] == [-2, -1] * 3


def test_cells_that_were_not_computed_have_no_row():
    values = [[1, math.nan], [2, 3]]
    axes = (Axis("query", ("a", "b")), Axis("key", ("a", "b")))
    found = table([figure(axes, values)]).to_pylist()
    assert [(row["query"], row["key_token"], row["value"]) for row in found] == [
        (0, "a", 1),
        (1, "a", 2),
        (1, "b", 3),
    ]


def test_a_number_that_is_missing_is_null_where_another_is_known():
    columns = (number("first", ""), number("second", "", "more"))
    one = figure([Axis("position", "ab")], [math.nan, 1], more=np.array([2, math.nan], np.float32))
    found = table([one], columns)
    assert found["first"].to_pylist() == [None, 1]
    assert found["second"].to_pylist() == [2, None]
    assert not any(
        value != value for name in found.column_names for value in found[name].to_pylist()
    )


def test_numbers_of_the_whole_figure_are_repeated_and_none_is_null():
    columns = (key("layer", "", "layer"), key("head", "", "head"), *VALUE)
    pair = [
        figure([Axis("key", "ab")], [1, 2], layer=3, head=None),
        figure([Axis("key", "ab")], [1, 2], layer=4, head=5),
    ]
    found = table(pair, columns)
    assert found["layer"].to_pylist() == [3, 3, 4, 4]
    assert found["head"].to_pylist() == [None, None, 5, 5]


def test_heads_of_layers_are_two_columns():
    found = table([figure([Axis(LAYER_HEAD, ("0.1", "11.3"))], [1, 2])])
    assert found["layer"].to_pylist() == [0, 11]
    assert found["head"].to_pylist() == [1, 3]


def test_input_columns_come_along_and_clashes_are_renamed():
    assert input_names(["id", "layer", "layer_input", "x"], ["layer", "line"]) == {
        "id": "id",
        "layer": "layer_input",
        "layer_input": "layer_input_input",
        "x": "x",
    }
    pair = [figure([Axis("head", "01")], [1, 2])] * 2
    found = table(pair, inputs=("label",))
    assert found["label"].to_pylist() == ["label1", "label1", "label2", "label2"]
    assert found["line"].to_pylist() == [1, 1, 2, 2]


def test_a_table_describes_its_columns():
    found = table([figure([Axis("head", "01")], [1, 2])], inputs=("label",))
    about = described_in(found.schema)
    assert about["schema"] == 2
    roles = {name: column["role"] for name, column in about["columns"].items()}
    assert roles == {
        "line": "key",
        "head": "key",
        "value": "value",
        "status": "status",
        "label": "input",
    }
    assert list(roles) == found.column_names


def test_no_figure_is_no_table():
    assert TableWriter("some", "", VALUE, {}).finish() is None


def test_columns_of_other_modes_are_left_out():
    columns = (number("a", "", modes=("one",)), number("b", "", modes=("two",)))
    names = [one.name for one in columns_in(columns, "two", ["head"])]
    assert names == ["line", "head", "b", "status"]


@given(
    st.lists(st.text(), min_size=1, max_size=5, unique=True),
    st.integers(1, 4),
)
def test_foreign_texts_survive(labels, layers):
    texts = [*labels, "\ud800", "\x1b[31m"]
    values = np.ones((layers, len(texts)))
    axes = (Axis("layer", tuple(map(str, range(layers)))), Axis("position", tuple(texts)))
    found = table([figure(axes, values)])["token"].to_pylist()
    assert found == [*labels, "\\ud800", "\x1b[31m"] * layers


def test_more_rows_than_a_row_group_stay_in_order(monkeypatch):
    monkeypatch.setattr("llmscope.figure.tables.arrow.FLUSH", 4)
    some = [figure([Axis("head", "012")], [one, one + 0.25, one + 0.5]) for one in range(7)]
    assert table(some)["value"].to_pylist() == [
        one + more for one in range(7) for more in (0, 0.25, 0.5)
    ]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (
            (" The", " cat", "'s", " ", "12", ",", "3rd"),
            "word word continuation space number punctuation other",
        ),
        (
            ("un", "believ", "able", "!", "\n", "Ça"),
            "word continuation continuation punctuation space word",
        ),
        ((" 3.14", "1,000", "—", "日本", "x9"), "number number punctuation word other"),
    ],
)
def test_classes_of_tokens(labels, classes):
    assert token_classes(labels, [False] * len(labels)) == classes.split()


def test_a_special_token_is_special_and_begins_a_word():
    assert token_classes(("<s>", "cat"), (True, False)) == ["special", "word"]


def test_texts_by_cell_have_the_figures_shape():
    column = Column("word", "string", "label", "", of=lambda one: ["a", "b", "c", "d"])
    one = figure((Axis("layer", "01"), Axis("position", "xy")), [[1, math.nan], [2, 3]])
    assert list(rows(one, (column, *VALUE))["word"]) == ["a", "c", "d"]
