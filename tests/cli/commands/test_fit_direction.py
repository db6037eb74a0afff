"""`llmscope fit direction`: what it writes, what it says, and what it refuses."""

import json

import pytest

from llmscope.jobs.fit_direction import estimators
from llmscope.learned.lenses.direction_file import read_directions
from tests.cli.running import failure, record, run

PLACES = ("anna", "ben", "cara", "dan")
QUICK = ("--shuffles", "2", "--dose-prompts", "4")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Questions and statements of the town: what the last word is."""
    path = tmp_path_factory.mktemp("directions") / "pairs.jsonl"
    lines = [
        {
            "positive": f"{start} does {name} sell",
            "negative": f"{start} does {name} live",
            "group": start,
        }
        for start in ("what", "where", "question : what", "so what", "and what", "why", "how")
        for name in PLACES
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_a_direction_is_written_in_both_formats_and_read(pairs, tmp_path):
    path, vector = tmp_path / "sell.safetensors", tmp_path / "sell.gguf"
    result = run("fit", "direction", "builtin:town", pairs, "--out", path, "--out", vector, *QUICK)
    assert result.exit_code == 0, result.stderr
    said = result.stdout
    found = read_directions(str(path))
    assert said.startswith(
        f"wrote {path}\nwrote {vector}; llama.cpp has no place for layer 0\n"
        "difference of means at position last; trained on 40 texts of 5 groups, measured on 16 of 2"
        "\n✓ the test set does not leak\n"
    )
    rows = [line.split() for line in said.splitlines() if line[:11].strip(" ◂").isdecimal()]
    assert [row[0] for row in rows if len(row) > 8] == [str(layer) for layer in found.probes]
    for row in rows[: len(found.probes)]:
        figures = found.probes[int(row[0])].figures
        assert f"{figures.held_out.auc.value:.3f}" in row
        assert f"{figures.calibration.ece:.3f}" in row
    assert f"best layer {found.best}, cross-validated · " in said
    assert found.about["model_name"] == "builtin:town"
    assert found.sets.pairs == "pairs.jsonl"
    (figure,) = record(
        *("builtin:town", "--prompt", "what does anna sell", "--lens", "probe"),
        *("--direction", path, "--mode", "tokens"),
    )["figures"]
    assert len(figure["values"]) == len(figure["axes"][0]["labels"])
    assert figure["extra"]["layer"] == found.best
    assert "fitted for" not in figure["verdict"]["reason"]
    assert found.dose is None or "held-out prompts; change of the probe's score" in said


def test_doses_by_two_tokens_and_a_leak_are_told(pairs, tmp_path):
    path = tmp_path / "sell.safetensors"
    result = run(
        *("fit", "direction", "builtin:town", pairs, "--out", path, *QUICK, "--split", "random"),
        *("--measure", " bread", " cake", "--layer", "1,-1", "--method", "logistic"),
        *("--dose-layer", "1", "--strength", "1"),
    )
    assert result.exit_code == 0, result.stderr
    found = read_directions(str(path))
    assert f"! the test set {found.sets.leak}" in result.stdout
    assert found.sets.leak.groups == found.sets.test_texts
    assert "partial: leaks: " in result.stdout
    assert "after layer 1 in 4 held-out prompts; change of log p(‹·bread›) − log p(‹·cake›)" in (
        result.stdout
    )
    assert found.dose.strengths[-1] == 1
    assert str(found.dose) in result.stdout
    assert list(found.probes) == [1, found.layers - 1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--method", "magic"), "one of mean, lda, logistic"),
        (("--split", "half"), "one of group, random, file"),
        (("--layer", "first"), "all, or layers such as 4,7,-1"),
        (("--strength", "0"), "a number above 0"),
        (("--suffix", " so"), "--measure too"),
    ],
)
def test_wrong_use(pairs, tmp_path, words, reason):
    where = ("--out", tmp_path / "x.safetensors")
    said = failure("fit", "direction", "builtin:town", pairs, *where, *words, code=2)
    assert reason in " ".join(said.replace("│", " ").split())


def test_what_is_refused_costs_a_line(pairs, tmp_path, monkeypatch):
    ask = ("fit", "direction", "builtin:town")
    out = tmp_path / "x.safetensors"
    assert "No such file" in failure(*ask, tmp_path / "none.jsonl", "--out", out)
    assert "there is no layer 40" in failure(*ask, pairs, "--out", out, "--layer", "40")
    assert "there is no position" in failure(*ask, pairs, "--out", out, "--position", "end")
    assert "no column split" in failure(*ask, pairs, "--out", out, "--split", "file")
    failure(*ask, pairs, "--out", tmp_path / "x.pt", code=2)
    monkeypatch.setattr(estimators, "has_sklearn", lambda: False)
    said = failure(*ask, pairs, "--out", out, "--method", "lda")
    assert "LDA needs scikit-learn (try: pip install scikit-learn, or --method mean)" in said
    out.write_text("")
    assert "--force to replace it" in failure(*ask, pairs, "--out", out)
