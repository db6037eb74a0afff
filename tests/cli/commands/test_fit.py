"""`llmscope fit`: what it writes, what it says, and what it refuses."""

import json

import pytest
import torch

import llmscope
from llmscope.cli.commands import fit as module
from llmscope.cli.output.progress import EVERY, progress_line
from llmscope.corpus import progress as clock
from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens import check
from llmscope.jobs.fit_lens.accumulate import FitState
from llmscope.learned.lenses.reader import read_lens
from tests.cli.running import failure, run
from tests.learned.texts import TEXTS

CORPUS = ("--skip", "2", "--length", "32")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "texts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS[:12]))
    return str(path)


def fitted(*words):
    result = run("fit", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.few(1)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_jacobian_lens_is_written_with_its_held_out_figures(prompts, tmp_path, suffix):
    path = tmp_path / f"lens{suffix}"
    said = fitted("jacobian", "builtin:town", "--prompts", prompts, "--out", str(path), *CORPUS)
    lens = read_lens(str(path))
    assert said.startswith(f"wrote {path}: Jacobian lens of 5 layers, 10 prompts, 0.1 MB\n")
    assert "standard error of the matrices, relative to them: " in said
    held = lens.held_out
    assert f"{held.tokens:,} held-out tokens of 2 prompts" in said
    rows = [line.split() for line in said.splitlines() if line[:1].isdigit() and "held" not in line]
    assert [row[:4] for row in rows] == [
        [
            str(layer),
            *(f"{way.top1[layer + 1]:.1%}" for way in (held.lens, held.logit, held.baseline)),
        ]
        for layer in range(5)
    ]
    assert lens.about["corpus"] == "texts.jsonl"
    assert lens.about["model_name"] == "builtin:town"
    assert not path.with_name(f"{path.name}.partial").exists()
    assert lens.maps[1].weight.dtype == torch.float16


def test_a_tuned_lens_is_written(prompts, tmp_path):
    path = tmp_path / "lens.safetensors"
    said = fitted(
        *("tuned", "--prompts", prompts, "--out", str(path), *CORPUS, "--steps", "5", "--float32")
    )
    assert "Tuned lens of 6 layers, 10 prompts" in said
    assert "baseline: a lens fitted on shuffled pairs" in said
    lens = read_lens(str(path))
    assert sorted(lens.maps) == [0, 1, 2, 3, 4, 5]
    assert lens.maps[0].weight.dtype == torch.float32


@pytest.mark.slow
def test_shards_are_merged(prompts, tmp_path):
    paths = [str(tmp_path / f"{at}.safetensors") for at in range(2)]
    for at, path in enumerate(paths):
        fitted(
            *("jacobian", "--prompts", prompts, "--out", path, *CORPUS, "--held-out", "0"),
            *("--shard", f"{at}/2", "--float32"),
        )
    whole, both = str(tmp_path / "whole.safetensors"), str(tmp_path / "both.safetensors")
    fitted(
        *("jacobian", "--prompts", prompts, "--out", whole, *CORPUS, "--held-out", "0"),
        "--float32",
    )
    said = fitted("merge", *paths, "--out", both, "--float32")
    assert "12 prompts" in said
    assert "not measured: llmscope fit check" in said
    one, other = read_lens(whole), read_lens(both)
    for stream, own in one.maps.items():
        assert torch.allclose(own.weight, other.maps[stream].weight, atol=1e-6)


@pytest.mark.slow
def test_what_check_measures_is_told_beside_the_lens_from_then_on(prompts, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "lens.safetensors"
    fitted("jacobian", "--prompts", prompts, "--out", str(path), *CORPUS, "--held-out", "0")
    with llmscope.load("builtin:town") as scope:
        scope.record("anna has a cat")
        before = scope.look("logit-lens", translator=str(path))
        assert before.verdict.reason.startswith("not measured: llmscope fit check")
        assert before.extra["held_out"] is None
        said = fitted("check", str(path), "--prompts", prompts, *CORPUS, "--max-prompts", "3")
        after = scope.look("logit-lens", translator=str(path))
    held = after.extra["held_out"]
    assert held["prompts"] == 3
    assert f"{held['tokens']:,} held-out tokens of 3 prompts" in said
    assert not after.verdict.reason.startswith("not measured")
    assert (before.values == after.values).all()


def test_a_stopped_check_goes_on_behind_the_prompts_that_it_measured(
    prompts, tmp_path, monkeypatch
):
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / "cache"))
    path, ran, streams_of = tmp_path / "lens.safetensors", [], check.streams_of
    fitted("jacobian", "--prompts", prompts, "--out", str(path), *CORPUS, "--held-out", "0")
    words = ("check", str(path), "--prompts", prompts, *CORPUS, "--max-prompts", "4")

    def stops(recorder, prompt):
        ran.append(prompt.number)
        if len(ran) == 3:
            raise ScopeError("it is stopped")
        return streams_of(recorder, prompt)

    monkeypatch.setattr(check, "streams_of", stops)
    assert "note: stopped: kept 2 prompts; the same command goes on" in failure("fit", *words)
    again = run("fit", *words)
    assert "note: going on behind 2 finished prompts" in again.stderr
    assert ran == [0, 1, 2, 2, 3]
    fresh = run("fit", *words)  # nothing is kept of one that is done
    assert len(ran) == 9
    assert again.stdout == fresh.stdout


def test_a_lens_is_not_replaced_unless_told(prompts, tmp_path):
    path = tmp_path / "lens.safetensors"
    path.write_bytes(b"mine")
    words = ("fit", "jacobian", "--prompts", prompts, "--out", str(path), *CORPUS)
    assert f"{path} exists (try: --force to replace it)" in failure(*words)
    assert path.read_bytes() == b"mine"
    fitted(*words[1:], "--force", "--max-prompts", "2")
    assert read_lens(str(path)).about["n_prompts"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("jacobian", "--out", "lens.bin"), "a name that ends in .safetensors or .pt"),
        (("tuned", "--out", "lens.pt"), "a name that ends in .safetensors"),
        (("jacobian", "--out", "x.pt", "--shard", "2/2"), "I/N with I from 0 to N − 1"),
        (("jacobian", "--out", "x.pt", "--backwards", "3"), "it takes --estimator rows or"),
    ],
)
def test_wrong_use_is_told_before_a_model_is_loaded(prompts, words, said, monkeypatch):
    monkeypatch.setattr(llmscope.scope.scope, "load_model", lambda **_: pytest.fail("loaded"))
    assert said in failure("fit", *words, "--prompts", prompts, code=2)


def test_a_lens_of_another_model_is_not_measured(prompts, tmp_path):
    path = tmp_path / "lens.safetensors"
    fitted("jacobian", "--prompts", prompts, "--out", str(path), *CORPUS, "--max-prompts", "2")
    said = failure("fit", "check", str(path), "builtin:sort", "--prompts", prompts)
    assert "the lens is for" in said


def test_a_line_that_is_no_prompt_is_named(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"prompt": "anna has a cat ."}\n{"text": 3}\n')
    said = failure("fit", "jacobian", "--prompts", str(path), "--out", str(tmp_path / "x.pt"))
    assert f"{path}, line 2: it has no prompt" in said


def test_progress_tells_the_error_and_the_time_left(monkeypatch):
    class Source:
        read = 0.25

    said, now = [], [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    _, count = module._progress(lambda words, *_: said.append(words), Source(), None)
    count(FitState(5, 0.5, 2.0))  # a fit that goes on: four prompts were done before
    now[0] = 102.0
    count(FitState(6, 0.123, 2.0))
    now[0], Source.read = 104.0, 0.5
    count(FitState(7, float("inf"), 2.0))
    count(FitState(7, 0.1, 2.0, stage="measuring on held-out prompts", share=0.25))
    assert said == [
        "fitting · 5 prompts · standard error 50.0%",
        "fitting · 6 prompts · standard error 12.3% · 2.0 s a prompt · 36 s left",
        "fitting · 7 prompts · 2.0 s a prompt · 14 s left",
        "7 prompts · measuring on held-out prompts · 25%",
    ]


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch, capsys):
    class Unknown:
        read = None

    now = [100.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])
    with progress_line(every=EVERY) as progress:
        _, count = module._progress(progress, Unknown(), 20)
        for prompts in range(1, 8):
            now[0] += 10
            count(FitState(prompts, 0.1, 2.0))
    assert capsys.readouterr().err.splitlines() == [
        "note: fitting · 3 prompts · standard error 10.0% · 10.0 s a prompt · 3 min left",
        "note: fitting · 6 prompts · standard error 10.0% · 10.0 s a prompt · 2 min left",
    ]
