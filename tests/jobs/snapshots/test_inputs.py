"""The columns of a prompt file come along, each with one type for all lines."""

import json

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.corpus.records.inputs import InputColumns
from llmscope.jobs.snapshots import PromptSource
from tests.jobs.snapshots.test_batch import batch, table

TOKENS = ("--lens", "tokens")


def columns_of(path):
    found, count = InputColumns.of(PromptSource(str(path)))
    return found.to_dict(), count


def jsonl(path, *records):
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_each_column_has_the_type_that_all_lines_agree_on(tmp_path):
    path = jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "A", "i": 1, "f": 1, "b": True, "s": "x", "mixed": 1, "n": None, "list": [1]},
        {"prompt": "B", "i": None, "f": 0.5, "b": False, "s": "7", "mixed": "x", "late": 3},
        {"prompt": "C", "huge": 2**70},
    )
    assert columns_of(path) == (
        {
            "i": "int64",
            "f": "double",
            "b": "bool",
            "s": "string",
            "mixed": "string",
            "n": "string",
            "list": "string",
            "late": "int64",
            "huge": "string",
        },
        3,
    )
    batch(path, tmp_path / "o", lenses=TOKENS)
    rows = table(tmp_path / "o")
    assert [row["f"] for row in rows] == [1.0, 0.5, None]
    assert [row["mixed"] for row in rows] == ["1", "x", None]
    assert [row["list"] for row in rows] == ["[1]", None, None]
    assert [row["huge"] for row in rows] == [None, None, str(2**70)]
    assert [row["late"] for row in rows] == [None, 3, None]
    tokens = parquet.read_table(tmp_path / "o" / "tokens" / "shard-00000.parquet")
    assert tokens.schema.field("b").type == pyarrow.bool_()
    assert set(tokens["s"].to_pylist()) == {"x", "7", None}


def test_numbers_of_a_csv_are_numbers(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt,n,f,b,zip,gap\nA,1,1.5,true,007,\nB,-2,2,false,123,4\n")
    types = {"n": "int64", "f": "double", "b": "bool", "zip": "string", "gap": "int64"}
    assert columns_of(path) == (types, 2)
    batch(path, tmp_path / "o", lenses=TOKENS)
    rows = table(tmp_path / "o")
    assert [(row["n"], row["f"], row["b"], row["zip"], row["gap"]) for row in rows] == [
        (1, 1.5, True, "007", None),
        (-2, 2.0, False, "123", 4),
    ]


def test_a_parquet_file_keeps_its_types(tmp_path):
    day = pyarrow.array([1, 2], pyarrow.date32())
    given = pyarrow.table(
        {
            "prompt": ["A", "B"],
            "when": day,
            "small": pyarrow.array([1, None], pyarrow.int8()),
            "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
            "many": [[1, 2], None],
        }
    )
    parquet.write_table(given, tmp_path / "p.parquet")
    batch(tmp_path / "p.parquet", tmp_path / "o", lenses=TOKENS)
    found = parquet.read_table(tmp_path / "o" / "prompts" / "shard-00000.parquet")
    for name in ("when", "small", "many"):
        assert found[name].to_pylist() == given[name].to_pylist()
        assert found.schema.field(name).type == given.schema.field(name).type
    assert found["kind"].to_pylist() == ["x", "y"]


def test_a_name_that_a_table_has_gets_a_suffix_in_all_tables(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"prompt": "AB", "line": 9, "surprisal": "x", "label": 1})
    batch(path, tmp_path / "o", lenses=TOKENS)
    for lens in ("prompts", "tokens"):
        (row, *_) = table(tmp_path / "o", lens)
        assert (row["line"], row["line_input"]) == (1, 9)
        assert row["surprisal_input"] == "x"
        assert row["label"] == 1


def test_shards_have_one_schema(tmp_path):
    lines = [{"prompt": "AB", "x": one} for one in (None, None, 1, 0.5, None, None)]
    batch(jsonl(tmp_path / "p.jsonl", *lines), tmp_path / "o", "--shard-size", "2", lenses=TOKENS)
    schemas = {
        parquet.read_schema(path).remove_metadata().to_string()
        for path in (tmp_path / "o" / "tokens").glob("*.parquet")
    }
    assert len(schemas) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=3), min_size=1, max_size=4))
def test_any_values_fit_the_types_that_were_found(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("inputs")
    lines = [{key: value for key, value in one.items() if key != "prompt"} for one in records]
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": "A", **one}) + "\n" for one in lines))
    source = PromptSource(str(path))
    found, count = InputColumns.of(source)
    assert count == len(lines)
    values = [found.values(line) for line in source]
    for name, kind in found.types.items():
        array = pyarrow.array([one[name] for one in values], kind)
        parquet.write_table(pyarrow.table({name: array}), folder / "t.parquet")
        for mine, line in zip(array.to_pylist(), lines, strict=True):
            if kind == pyarrow.int64() or kind == pyarrow.bool_():
                assert mine == line.get(name)


@pytest.mark.parametrize("word", ["prompt", ""])
def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path, word):
    from llmscope.errors import ScopeError

    array = pyarrow.array(["A"])
    given = pyarrow.Table.from_arrays([array, array, array], names=["prompt", word, word])
    parquet.write_table(given, tmp_path / "p.parquet")
    with pytest.raises(ScopeError, match="two columns"):
        InputColumns.of(PromptSource(str(tmp_path / "p.parquet")))
