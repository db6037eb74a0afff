"""A line's own target, prompt B, context, edits and layer hold for it alone."""

import json

import pytest

from llmscope.scope.scope import load
from tests.cli.running import failure
from tests.jobs.snapshots.test_batch import batch, table
from tests.jobs.snapshots.test_inputs import jsonl

TOWN = "builtin:town"
ASK = "cat -> kitten, cow ->"


@pytest.fixture(scope="module")
def scope():
    return load(TOWN)


def run(tmp_path, *records, lenses, more=()):
    words = [word for name in lenses for word in ("--lens", name)]
    path = jsonl(tmp_path / "p.jsonl", *records)
    return batch(path, tmp_path / "o", *more, model=TOWN, lenses=words)


def test_targets(tmp_path, scope):
    lamb = scope.token(" lamb")
    records = [
        {"prompt": ASK, "target": " calf"},
        {"prompt": ASK, "target": lamb},
        {"prompt": ASK, "target": None},
        {"prompt": ASK, "target": "no such token"},
    ]
    run(tmp_path, *records, lenses=("next-token",), more=("--target", " kid", "--top-k", "1"))
    rows = table(tmp_path / "o", "next-token")
    assert [row["target"] for row in rows] == [" calf", " lamb", " kid"]
    for row in rows:
        figure = scope.look("next-token", recording=scope.record(ASK), target=row["target_id"])
        assert row["p_target"] == pytest.approx(figure.extra["target_probability"], rel=1e-5)
        assert row["rank_target"] == figure.extra["target_rank"]
    errors = [row["error"] for row in table(tmp_path / "o")]
    assert errors[:3] == [None] * 3
    assert "no such token" in errors[3]


def test_prompts_b_and_edits(tmp_path, scope):
    other = "cat -> kitten, dog ->"
    records = [
        {"prompt": ASK, "versus_prompt": other},
        {"prompt": ASK},
        {"prompt": ASK, "edits": ["zero head 1.0", "zero mlp 2"]},
        {"prompt": ASK, "edits": "zero head 1.0; zero mlp 2"},
        {"prompt": ASK, "edits": "patch stream 3 @-1 from B", "versus_prompt": other},
        {"prompt": ASK, "edits": "patch stream 3 @-1 from B"},
        {"prompt": ASK, "edits": "zero everything"},
    ]
    run(tmp_path, *records, lenses=("next-token", "patching"), more=("--top-k", "1"))
    rows = {row["line"]: row for row in table(tmp_path / "o", "next-token")}
    edited = scope.record(ASK, edits=["zero head 1.0", "zero mlp 2"])
    expected = scope.look("next-token", recording=edited)
    for line in (3, 4):
        assert rows[line]["p"] == pytest.approx(float(expected.values[0]), rel=1e-5)
        assert rows[line]["kl"] == pytest.approx(expected.extra["kl"], rel=1e-4)
    assert rows[2]["kl"] is None
    patched = scope.record(ASK, edits=["patch stream 3 @-1 from B"], versus_prompt=other)
    assert rows[5]["p"] == pytest.approx(
        float(scope.look("next-token", recording=patched).values[0]), 1e-5
    )
    errors = {row["line"]: row["error"] for row in table(tmp_path / "o")}
    assert [line for line, error in errors.items() if error] == [6, 7]
    assert "prompt B" in errors[6]
    patching = {row["line"] for row in table(tmp_path / "o", "patching")}
    assert patching == {1}
    refused = [
        row["line"]
        for row in table(tmp_path / "o", "verdicts")
        if (row["lens"], row["status"]) == ("patching", "refused")
    ]
    assert refused == [2, 3, 4, 5]


def test_places_and_contexts(tmp_path, scope):
    records = [
        {"prompt": "anna lives in", "layer": 2, "head": 1, "context": "anna lives in rome"},
        {"prompt": "anna lives in", "layer": "-1", "position": -2.0},
        {"prompt": "anna lives in", "layer": 99},
        {"prompt": "anna lives in", "layer": "x"},
    ]
    run(tmp_path, *records, lenses=("attention", "context"))
    rows = table(tmp_path / "o", "attention")
    places = {(row["line"], row["layer"], row["head"]) for row in rows}
    assert places == {(1, 2, 1), (2, 5, 0)}
    errors = {row["line"]: row["error"] for row in table(tmp_path / "o")}
    assert [line for line, error in errors.items() if error] == [3, 4]
    assert "whole number" in errors[4]
    with_context = [row for row in table(tmp_path / "o", "context") if row["line"] == 1]
    assert with_context
    whole = scope.record("anna lives in rome\nanna lives in")
    length = len(scope.record("anna lives in rome\n"))
    figure = scope.look("context", recording=whole, context=length)
    values = sorted(row["change"] for row in with_context)
    assert values == pytest.approx(
        sorted(figure.values[~(figure.values != figure.values)].ravel().tolist()), rel=1e-4
    )


def test_all_failing_is_an_error(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": 3}) + "\n")
    ask = ("snapshot", TOWN, "--prompts", path, "--lens", "tokens", "--out", tmp_path / "o")
    told = failure(*ask)
    assert "all prompts failed" in told
    assert table(tmp_path / "o")[0]["error"] == "its prompt is no text"
