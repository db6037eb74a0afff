"""Figures over the steps hold the numbers of the figures at each step."""

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from llmscope.figure import LAYER_HEAD, TRAINING_STEP, Axis, Figure, Focus
from llmscope.runs import format as form
from llmscope.runs.over_time import COLUMNS, Series, curve_of, curves, map_over_time, step_axis
from llmscope.runs.reader import RunReader
from llmscope.runs.writer import RunWriter
from llmscope.tui.modes.run.run_view import RunView
from tests.runs.making import HEADS, LAYERS, TOKENS, figures, info, line, written


@pytest.fixture
def run(tmp_path):
    return RunReader(written(tmp_path / "run"))


def figure_of(run, key):
    return next(one for one in run.info.figures if one.key == key)


def shown(run, key, focus=None, **more):
    return map_over_time(Series(run), figure_of(run, key), focus or Focus(), **more)


@pytest.mark.parametrize("position", [0, 2, -1])
def test_the_target_by_layer_at_the_token_under_the_cursor(run, position):
    found = shown(run, "1/logit-lens:target", Focus(position=position))
    assert [axis.name for axis in found.axes] == ["layer", TRAINING_STEP]
    assert found.axes[1].labels == ("0", "10", "20", "30", "40")
    for column, step in enumerate((0, 10, 20, 30, 40)):
        want = figures(step)["1/logit-lens:target"].values[:, position]
        np.testing.assert_array_equal(found.values[:, column], want)
    assert found.verdict.status == "verified"
    assert found.unit == "probability"


def test_the_score_of_each_head(run):
    found = shown(run, "model/heads:induction")
    assert found.axes[0].name == LAYER_HEAD
    assert found.axes[0].labels == tuple(f"{a}.{b}" for a in range(LAYERS) for b in range(HEADS))
    want = figures(30)["model/heads:induction"].values
    np.testing.assert_array_equal(found.values[:, 3], want.ravel())


def test_the_surprisal_of_each_token(run):
    found = shown(run, "0/tokens")
    assert found.axes[0].labels == TOKENS
    np.testing.assert_array_equal(found.values[:, 2], figures(20)["0/tokens"].values)


def test_a_table_of_other_tokens_at_each_step_has_no_map(run):
    assert shown(run, "0/next-token").verdict.status == "refused"


def test_the_curve_of_the_number_under_the_cursor(run):
    series = Series(run)
    one = figure_of(run, "0/logit-lens:target")
    said, values, unit = curve_of(series, one, Focus(layer=1, position=2))
    want = [figures(step)["0/logit-lens:target"].values[2, 2] for step in (0, 10, 20, 30, 40)]
    np.testing.assert_array_equal(values, np.array(want))  # row 0 is the embedding
    assert said == "probability of the target at layer 1, ‹ c›"
    assert unit == "probability"
    said, values, _ = curve_of(series, figure_of(run, "1/next-token"), Focus())
    want = [figures(step)["1/next-token"].extra["target_probability"] for step in (0, 10)]
    np.testing.assert_allclose(values[:2], want)
    assert said == "P(‹ e›)"
    heads = figure_of(run, "model/heads:induction")
    _, values, _ = curve_of(series, heads, Focus(layer=2, head=1))
    assert values[4] == figures(40)["model/heads:induction"].values[2, 1]


def test_another_figure_at_a_step_is_a_gap(tmp_path):
    folder = tmp_path / "run"
    writer = RunWriter(folder, info())
    for step in (0, 10, 20):
        some = figures(step)
        if step == 10:  # the lens chose another head, and other tokens
            old = some["model/heads:induction"]
            some["model/heads:induction"] = replace(old, extra={**old.extra, "head": 1})
            old = some["0/tokens"]
            some["0/tokens"] = replace(old, axes=(Axis("position", ("x", " y", " z", " w")),))
        writer.add(some, line(step), began=perf_counter())
    run = RunReader(folder)
    for key in ("model/heads:induction", "0/tokens"):
        found = shown(run, key)
        assert np.isnan(found.values[:, 1]).all()
        assert not np.isnan(found.values[-1, 2])
        _, values, _ = curve_of(Series(run), figure_of(run, key), Focus(layer=1))
        assert np.isnan(values).tolist() == [False, True, False]


def test_a_lens_that_is_refused_at_first_is_shown_from_where_it_is_not(tmp_path):
    folder = tmp_path / "run"
    writer = RunWriter(folder, info())
    for step in (0, 10, 20):
        some = figures(step)
        if step == 0:
            some["0/tokens"] = Figure.refused("tokens", "tokens", "not yet")
        writer.add(some, line(step), began=perf_counter())
    run = RunReader(folder)
    found = shown(run, "0/tokens")
    assert np.isnan(found.values[:, 0]).all()
    np.testing.assert_array_equal(found.values[:, 2], figures(20)["0/tokens"].values)
    assert found.verdict.status == "partial"


def test_a_curve_has_the_verdict_of_its_steps_and_a_gap_where_one_is_missing(tmp_path):
    folder = written(tmp_path / "run")
    sorted((folder / form.SHARDS).iterdir())[2].unlink()
    view = RunView([RunReader(folder)])
    slot = next(one for one in view.slots if one.lens == "tokens")
    found = view.curve(slot, 0, Focus(position=1))
    assert found.verdict.status == "partial"
    assert np.isnan(found.values).tolist() == [False, False, True, False, False]


def test_a_missing_step_is_a_gap_and_is_said(tmp_path):
    folder = written(tmp_path / "run")
    sorted((folder / form.SHARDS).iterdir())[2].unlink()
    run = RunReader(folder)
    found = shown(run, "0/tokens")
    assert np.isnan(found.values[:, 2]).all()
    np.testing.assert_array_equal(found.values[:, 3], figures(30)["0/tokens"].values)
    assert found.verdict.status == "partial"
    assert "step 20 is left out" in found.verdict.reason


def test_a_long_run_is_sampled_with_its_ends_and_the_step_on_screen(tmp_path):
    run = RunReader(written(tmp_path / "run", steps=range(0, 700, 2)))
    series = Series(run)
    for here in (0, 100, 173, 349):
        steps = series.sampled(here)
        assert len(steps) == COLUMNS
        assert steps[0].step == 0
        assert steps[-1].step == 698
        assert run.steps[here] in steps
        assert [one.step for one in steps] == sorted({one.step for one in steps})
    found = shown(run, "0/tokens", here=173, columns=20)
    assert found.axes[1].labels[0] == "0"
    assert str(run.steps[173].step) in found.axes[1].labels
    assert "20 of 350 steps" in found.title
    at = found.axes[1].labels.index(str(run.steps[173].step))
    want = figures(run.steps[173].step)["0/tokens"].values
    np.testing.assert_array_equal(found.values[:, at], want)


def test_two_runs_with_other_steps_share_an_axis():
    found = curves(
        {
            "a": ([0, 10, 20], np.array([0.0, 1.0, 2.0], np.float32)),
            "b": ([0, 15], np.array([5.0, 8.0], np.float32)),
        },
        "loss",
        "",
    )
    assert found.axes[1].labels == ("0", "10", "15", "20")
    np.testing.assert_allclose(found.values[0], [0, 1, 1.5, 2])
    np.testing.assert_allclose(found.values[1], [5, 7, 8, np.nan])


def test_stages_and_checkpoints_are_labelled():
    stages = [line(0, stage="sft"), line(10, stage="sft"), line(30, stage="dpo", start=30)]
    stages.append(line(35, stage="dpo", start=30))
    assert step_axis(stages).labels == ("sft", "10", "dpo", "5")
    assert step_axis([line(1, name="step1000")]).labels == ("step1000",)
