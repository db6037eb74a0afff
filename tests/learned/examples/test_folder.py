"""What is written is what is read; files of others are refused, and nothing of them runs."""

import json
import math
import subprocess
import sys

import pytest

from llmscope.errors import ScopeError
from llmscope.learned.examples.folder import (
    Index,
    UnitGroup,
    file_bytes,
    file_of,
    index_bytes,
    read_examples,
    read_index,
)
from llmscope.learned.examples.unit import Unit, feature, head, neuron
from tests.learned.examples.made import example, made

INDEX = Index(
    "gpt2",
    None,
    "texts.txt",
    10,
    1000,
    (
        UnitGroup("feature", "5.resid_post", None, 300, "folder", "abc"),
        UnitGroup("head", "2.heads", (1, 3), 2),
    ),
    {"length": 128},
)


def put(folder, *some):
    (folder / file_of(some[0].unit.place, some[0].unit.index)).write_bytes(file_bytes(some))


def test_examples_are_read_as_they_were_written(tmp_path):
    odd = '\x1b[31m \ud800 \u2028 "}\n\\'
    some = [
        made(130, label='x "label" y'),
        made(131, top=(example(1, 2, 1e-7, (odd, "index", '"index":130,', "b"), 1),)),
        made(132, active=0, mean=math.nan, lowest=math.nan, highest=math.nan, top=()),
    ]
    put(tmp_path, *some)
    for one in some[:2]:
        assert read_examples(tmp_path, one.unit) == one
    found = read_examples(tmp_path, some[2].unit)
    assert math.isnan(found.mean)
    assert found.density == 0
    for missing in (feature("5.resid_post", 133), feature("5.resid_post", 13), neuron(5, 1)):
        assert read_examples(tmp_path, missing) is None


def test_an_index_is_read_as_it_was_written(tmp_path):
    assert read_index(tmp_path) is None
    assert read_index(tmp_path / "missing") is None
    (tmp_path / "index.json").write_bytes(index_bytes(INDEX))
    assert read_index(tmp_path) == INDEX
    assert feature("5.resid_post", 299) in INDEX
    assert feature("5.resid_post", 300) not in INDEX
    assert head(2, 3) in INDEX
    assert head(2, 2) not in INDEX
    assert neuron(2, 1) not in INDEX


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"groups": {}},
        {"groups": [{"kind": "feature"}]},
        {"groups": [{**INDEX.groups[0].to_dict(), "place": "../../etc"}]},
        {"groups": [{**INDEX.groups[0].to_dict(), "count": 10**9}]},
        {"groups": [{**INDEX.groups[1].to_dict(), "indices": [1, "3"]}]},
        {"model": 3},
        {"tokens": 1.5},
        {"revision": []},
    ],
)
def test_an_index_of_another_form_is_refused(tmp_path, change):
    (tmp_path / "index.json").write_text(json.dumps(INDEX.to_dict() | change))
    with pytest.raises(ScopeError, match=r"the examples .*index\.json cannot be read"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": -1},
        {"tokens": True},
        {"active": 2000},
        {"mean": "1"},
        {"mean": 1e999},
        {"label": 3},
        {"label": "x" * 5000},
        {"histogram": [[0, 1]]},
        {"histogram": [[1, 0, 3]]},
        {"histogram": [[0, 1, 3]] * 300},
        {"top": {}},
        {"top": [3]},
        {"top": [{**example(1, 2, 3.0).to_dict(), "peak": 5}]},
        {"top": [{**example(1, 2, 3.0).to_dict(), "activations": [1.0]}]},
        {"top": [{**example(1, 2, 3.0).to_dict(), "tokens": [1, 2, 3, 4, 5]}]},
        {"top": [{**example(1, 2, 3.0).to_dict(), "tokens": ["x"] * 600}]},
        {"top": [{**example(1, 2, 3.0).to_dict(), "activation": None}]},
        {"top": [example(1, 2, 3.0).to_dict()] * 1001},
    ],
)
def test_examples_of_another_form_are_refused(tmp_path, change):
    record = made().to_dict() | change
    text = json.dumps(record, separators=(",", ":"))
    (tmp_path / file_of("5.resid_post", 7)).write_text(text)
    with pytest.raises(ScopeError, match="cannot be read"):
        read_examples(tmp_path, made().unit)


@pytest.mark.parametrize(
    "content", [b'{"index":7,\xff', b'{"index":7,"label"', b'{"index":7,' + b"[" * 9999]
)
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / file_of("5.resid_post", 7)).write_bytes(content)
    with pytest.raises(ScopeError, match="cannot be read"):
        read_examples(tmp_path, made().unit)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / file_of("5.resid_post", 7)).mkdir()
    with pytest.raises(ScopeError, match="it is no regular file"):
        read_examples(tmp_path, made().unit)


@pytest.mark.parametrize(
    ("kind", "place", "index"),
    [
        ("feature", "../5.resid_post", 0),
        ("feature", "5", 0),
        ("neuron", "5.heads", 0),
        ("thing", "5.heads", 0),
        ("head", "5.heads", -1),
    ],
)
def test_places_name_no_other_files(kind, place, index):
    with pytest.raises(ValueError, match=r"is no place|there is no"):
        Unit(kind, place, index)


def test_units_have_names():
    assert [str(one) for one in (feature("5.z.3", 12), neuron(5, 120), head(1, 2))] == [
        *("5.z.3/12", "5.120", "1.2")
    ]
    assert [one.title for one in (feature("5.z.3", 12), neuron(5, 120), head(1, 2))] == [
        *("Feature 12 of 5.z.3", "Neuron 5.120", "Head 1.2")
    ]


def test_reading_needs_neither_torch_nor_the_screen():
    code = (
        "import sys, llmscope.learned.examples.folder, llmscope.learned.examples.figure;"
        "import llmscope.learned.examples.text;"
        "print([m for m in ('torch', 'transformers', 'textual', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
