"""A bounded number of mutations of each kind of file; `python -m tests.fuzz` runs 10,000 each."""

import random
import sys

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.run import Worker, fuzz, judge
from tests.fuzz.seeds import make_seeds

COUNTS = {
    **dict.fromkeys(("json", "npz", "safetensors", "hidden-states"), 120),
    **dict.fromkeys(("run", "transcript", "mcp", "paste"), 100),
}
"""Mutations of a kind in the tests; of a kind that loads a model, fewer."""

GOOD = {
    "command": "snapshot",
    "code": 1,
    "error": "error: it is damaged (try: another)\n",
    "error_bytes": 37,
    "out_bytes": 0,
    "seconds": 0.1,
    "memory": 0,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    make_seeds(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_costs_one_line(kind, seeds):
    found = [one for one in fuzz(kind, seeds, 0, COUNTS.get(kind, 25)) if one is not None]
    assert not found


def test_one_error_line_is_no_finding():
    assert judge(GOOD) == ""
    assert judge({**GOOD, "code": 0, "error": "note: a note\n"}) == ""
    assert judge({**GOOD, "command": "diff", "error": ""}) == ""


@pytest.mark.parametrize(
    "answer",
    [
        {"code": "raised"},
        {"code": 139},
        {"seconds": 11.0},
        {"memory": 2 << 30},
        {"error": "thread 'x' panicked at src/lib.rs\nerror: it is damaged\n"},
        {"error": "Traceback (most recent call last):\nerror: it is damaged\n"},
        {"error": "error: KeyError 'x' (try: --debug, which shows where)\n"},
        {"error": "error: a\nerror: b\n"},
        {"error": ""},
        {"error": "error: " + "a" * 2000 + "\n", "error_bytes": 2008},
    ],
    ids=lambda answer: next(iter(answer)),
)
def test_everything_else_is_a_finding(answer):
    assert judge({**GOOD, **answer})


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_is_told_and_replaced(monkeypatch):
    stubs = {
        "died": "import os, sys; sys.stdin.readline(); os._exit(9)",
        "hung": "import sys; sys.stdin.readline()\nwhile True: pass",
    }
    monkeypatch.setattr("tests.fuzz.run.MOST_SECONDS", 0.5)
    for word, code in stubs.items():
        monkeypatch.setattr("tests.fuzz.run.COMMAND", [sys.executable, "-c", code])
        worker = Worker()
        assert worker.run([["replay", "x"]]).startswith(word)
        assert worker.run([["replay", "x"]]).startswith(word)  # by a new process
        worker.close()


def test_a_number_makes_the_same_file_again(tmp_path):
    kind = KINDS["json"]
    seeds = tmp_path / "seeds"
    (seeds / "snapshots").mkdir(parents=True)
    (seeds / "snapshots" / "plain.json").write_text('{"a": [1, 2, {"b": "c"}], "d": null}')
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        kind.make(seeds, folder, random.Random("json 5"))
        made.append((folder / "plain.json").read_bytes())
    assert made[0] == made[1]
