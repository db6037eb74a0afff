"""A run made of saved weights: each recorded once, with the numbers of `load`."""

import numpy as np
import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.runs.reader import RunReader
from llmscope.runs.training.checkpoints import (
    CheckpointRecorder,
    cached_run,
    is_checkpoints,
    revisions_of,
    trainer_checkpoints,
    with_targets,
)
from tests.cli.running import failure, run
from tests.models.conftest import hub
from tests.runs.training.small import loop, town

__all__ = ["hub"]

PROMPT, TARGET = "the capital of france is", "paris"
LENSES = ("tokens", "next-token", "logit-lens", "heads")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with checkpoints as a Trainer leaves them."""
    folder = tmp_path_factory.mktemp("trained")
    model, tokenizer = town()

    def save(step, loss):
        if step in (5, 10, 20):
            model.save_pretrained(folder / f"checkpoint-{step}")
            tokenizer.save_pretrained(folder / f"checkpoint-{step}")

    loop(model, tokenizer, 20, save)
    return folder


class Loads:
    """Loads models, and remembers which."""

    def __init__(self):
        self.specs = []

    def __call__(self, spec):
        self.specs.append(spec.rpartition("/")[2])
        return llmscope.load(spec)


def recorded(folder, found, loads, prompts=({"prompt": PROMPT, "target": TARGET},)):
    recorder = CheckpointRecorder(folder, found, loads, prompts, LENSES)
    recorder.start()
    recorder.wait()
    return recorder


@pytest.mark.slow
def test_the_numbers_are_those_of_load_and_nothing_is_recorded_twice(trained, tmp_path):
    assert is_checkpoints(trained)
    found, loads = trainer_checkpoints(trained), Loads()
    assert [one.step for one in found] == [5, 10, 20]
    recorder = recorded(tmp_path / "run", found[1:], loads)
    assert recorder.failures == []
    assert recorder.doing == ""
    run = RunReader(tmp_path / "run")
    assert [(one.step, one.name) for one in run.steps] == [
        (10, "checkpoint-10"),
        (20, "checkpoint-20"),
    ]
    for one in run.steps:
        scope = llmscope.load(str(trained / one.name))
        recording = scope.record(PROMPT)
        figures = run.figures(one)
        for lens, key, asked in (
            ("tokens", "0/tokens", {}),
            ("logit-lens", "0/logit-lens:target", {"mode": "target", "target": TARGET}),
            ("heads", "model/heads:induction", {}),
        ):
            want = scope.look(lens, recording=recording, **asked).values
            np.testing.assert_allclose(figures[key].values, want, atol=1e-5)
    recorded(tmp_path / "run", found, loads)
    assert loads.specs == ["checkpoint-10", "checkpoint-20", "checkpoint-5"]
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [5, 10, 20]
    recorded(tmp_path / "run", found, loads)
    assert len(loads.specs) == 3


def test_a_checkpoint_that_changed_is_recorded_again(trained, tmp_path):
    found, loads = trainer_checkpoints(trained), Loads()
    recorded(tmp_path / "run", found, loads)
    changed = [found[0].__class__(one.name, one.spec, one.step, "other") for one in found[:1]]
    recorded(tmp_path / "run", [*changed, *found[1:]], loads)
    assert loads.specs[3:] == ["checkpoint-5"]


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_others(trained, tmp_path):
    found = trainer_checkpoints(trained)
    found[1] = found[1].__class__("checkpoint-10", str(tmp_path / "gone"), 10, "x")
    recorder = recorded(tmp_path / "run", found, llmscope.load)
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [5, 20]
    assert len(recorder.failures) == 1
    assert recorder.failures[0].startswith("checkpoint-10: ")
    assert "\n" not in recorder.failures[0]


def test_nothing_to_show_is_an_error(tmp_path):
    found = revisions_of(str(tmp_path / "gone"), ["a"])
    recorder = CheckpointRecorder(tmp_path / "run", found, llmscope.load, [PROMPT], LENSES)
    recorder.start()
    with pytest.raises(ScopeError, match="a: "):
        recorder.wait_for_first(lambda said: None)


@pytest.mark.slow
def test_revisions_of_the_hub(hub, trained, tmp_path):
    for at, name in enumerate(("step20", "step5", "step10")):
        step = name.removeprefix("step")
        hub.commit("org/name", f"{at}" * 40, trained / f"checkpoint-{step}", name)
    found = revisions_of("org/name", ["step20", "step5", "step10"])
    assert [one.name for one in found] == ["step5", "step10", "step20"]
    recorder = recorded(tmp_path / "run", found, llmscope.load)
    assert recorder.failures == []
    run = RunReader(tmp_path / "run")
    assert [(one.step, one.name) for one in run.steps] == [
        (5, "step5"),
        (10, "step10"),
        (20, "step20"),
    ]
    chances = [run.figures(one)["0/next-token"].extra["target_probability"] for one in run.steps]
    for step, chance in zip((5, 10, 20), chances, strict=True):
        scope = llmscope.load(str(trained / f"checkpoint-{step}"))
        scope.record(PROMPT)
        want = scope.look("next-token", target=TARGET).extra["target_probability"]
        assert chance == pytest.approx(want, abs=1e-5)
    hub.asked.clear()
    recorded(tmp_path / "run", found, llmscope.load)
    assert hub.asked == []


def test_names_without_numbers_are_counted():
    steps = [one.step for one in revisions_of("m", ["main", "old"])]
    assert steps == [0, 1]
    assert [one.step for one in revisions_of("m", ["step0", "step512"])] == [0, 512]
    with pytest.raises(ScopeError, match="named twice"):
        revisions_of("m", ["a", "a"])


def test_the_cache_tells_runs_apart(trained):
    found = trainer_checkpoints(trained)
    one = cached_run(found, [PROMPT], LENSES, {})
    assert one == cached_run(found[:1], [PROMPT], LENSES, {})  # another row of the same training
    assert (
        len({one, cached_run(found, ["x"], LENSES, {}), cached_run(found, [PROMPT], "x", {})}) == 3
    )
    assert with_targets(["a", "b"], [" x"]) == [{"prompt": "a", "target": " x"}, "b"]


def test_the_command(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / "cache"))
    words = ("--prompt", PROMPT, "--target", TARGET)
    result = run("watch", trained, *words, "--export", tmp_path / "tables")
    assert result.exit_code == 0, result.output
    assert "checkpoint-5, 1 of 3" in result.stderr
    assert (tmp_path / "tables" / "tokens.parquet").exists()
    (folder,) = (tmp_path / "cache" / "runs").iterdir()
    assert len(RunReader(folder).steps) == 3
    again = run("watch", trained, *words, "--export", tmp_path / "more")
    assert "checkpoint-" not in again.stderr
    assert "no terminal" in failure("watch", trained, *words)
    assert "--lens" in failure(
        "watch", trained, "--lens", "heds", "--export", tmp_path / "x", code=2
    )
    assert "each target needs" in failure("watch", trained, "--target", "x", code=2)
