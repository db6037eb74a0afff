"""Labels of features: Neuronpedia's exports in each form, and what is passed over."""

import gzip
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.learned.dictionaries import labels
from llmscope.support.lines import LIMITS

LINES = [
    {"modelId": "gpt2-small", "layer": "5-res-jb", "index": "3", "description": "names of towns"},
    {"index": 4, "description": "  rivers\n"},
    {"index": "3", "description": "a second one"},
]
WANTED = {3: "names of towns", 4: "rivers"}


def lines(records):
    return "\n".join(map(json.dumps, records)).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", lines(LINES)),
        ("x.jsonl.gz", gzip.compress(lines(LINES), mtime=0)),
        ("x.json", json.dumps(LINES).encode()),
        ("x.json", json.dumps({"explanations": LINES}).encode()),
        ("x.jsonl", b"\xff\n{\n\n[1]\n" + lines(LINES) + b"\n{" + b"x" * 200_000 + b"\n"),
    ],
)
def test_forms(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert labels.read(tmp_path, 10**9) == WANTED


def test_the_first_of_several_files_counts(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(lines([{"index": 3, "description": "later"}]))
    (tmp_path / "a.jsonl").write_bytes(lines(LINES))
    assert labels.read(tmp_path, 10**9) == WANTED


@pytest.mark.parametrize(
    "record",
    [
        *({}, [], None, 3, {"index": 3}, {"description": "x"}, {"index": -1, "description": "x"}),
        *({"index": True, "description": "x"}, {"index": 1.0, "description": "x"}),
        *({"index": "²", "description": "x"}, {"index": "9" * 5000, "description": "x"}),
        *({"index": 1, "description": " \n"}, {"index": 1, "description": ["x"]}),
        {"index": "1 ", "description": "x"},
    ],
)
def test_records_that_tell_nothing(tmp_path, record):
    (tmp_path / "x.jsonl").write_bytes(lines([record]))
    (tmp_path / "y.json").write_text(json.dumps([record]))
    assert labels.read(tmp_path, 10**9) == {}


def test_a_long_label_is_cut(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(lines([{"index": 1, "description": "x" * 5000}]))
    assert len(labels.read(tmp_path, 10**9)[1]) == labels.SHOWN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b"[" * 100_000),
        ("x.json", b"{"),
        ("x.json", b'{"explanations": 3}'),
        ("x.jsonl", b"[" * 60_000 + b"\n"),
        ("x.jsonl.gz", b"no gzip"),
        ("x.jsonl.gz", gzip.compress(lines(LINES[:1]) * 50, mtime=0)[:40]),
        ("config.json", json.dumps(LINES).encode()),
        ("cfg.json", json.dumps(LINES).encode()),
    ],
)
def test_files_that_are_passed_over(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert labels.read(tmp_path, 10**9) == {}


def test_folders_pipes_and_missing_files(tmp_path):
    (tmp_path / "x.json").mkdir()
    os.mkfifo(tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").symlink_to("nothing")
    assert labels.read(tmp_path, 10**9) == {}
    assert labels.read(tmp_path / "none", 10**9) == {}


def test_files_that_are_large_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "LINES_BYTES", 1 << 20)
    bomb = b"x" * (4 << 20) + b"\n" + lines(LINES)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(bomb))
    assert labels.read(tmp_path, 10**9) == {}
    monkeypatch.setitem(LIMITS, "labels", 1 << 10)
    (tmp_path / "x.json").write_bytes(json.dumps(LINES * 100).encode())
    assert labels.read(tmp_path, 10**9) == {}


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON |= st.lists(JSON, max_size=3) | st.dictionaries(st.text(), JSON, max_size=3)
RECORD = st.fixed_dictionaries({}, optional={"index": JSON, "description": JSON})


@settings(max_examples=30)
@given(st.lists(RECORD | JSON), st.binary(max_size=40))
def test_any_content(tmp_path_factory, records, rest):
    folder = tmp_path_factory.mktemp("labels")
    (folder / "a.json").write_text(json.dumps(records))
    (folder / "b.jsonl").write_bytes(lines(records) + b"\n" + rest)
    (folder / "c.jsonl.gz").write_bytes(rest)
    for index, text in labels.read(folder, 10**9).items():
        assert type(index) is int
        assert index >= 0
        assert 0 < len(text) <= labels.SHOWN
