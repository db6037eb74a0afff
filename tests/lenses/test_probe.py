"""The lens `probe` against streams of hooks by hand."""

from dataclasses import replace

import numpy as np
import pytest

import llmscope
from llmscope.jobs.fit_direction.fit import DirectionFit, fit_direction
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.learned.lenses.direction_file import write_directions
from tests.jobs.fit_direction.conftest import ids_texts, planted_model
from tests.jobs.fit_direction.test_fit import hidden

IDS = [5, 17, 3, 60, 17, 42, 8]
SOME = DirectionFit(dose=None, shuffles=3, layers=(0, 2))


@pytest.fixture(scope="module")
def scope():
    return llmscope.wrap(planted_model()[0])


@pytest.fixture(scope="module")
def found(scope):
    return fit_direction(scope, ids_texts(), SOME)


@pytest.fixture
def file(found, tmp_path):
    path = tmp_path / "direction.safetensors"
    write_directions(found, path)
    return str(path)


def by_hand(found, layer):
    """The scores of the tokens, in float64 from plain transformers. [position]"""
    rows = hidden(planted_model()[0].double(), IDS)[layer]
    direction = found.probes[layer].direction.double().numpy()
    return rows @ direction / (direction @ direction) - found.probes[layer].offset


def test_scores_and_probabilities_are_those_of_hooks_by_hand(scope, found, file):
    scope.record(IDS)
    scores = scope.look("probe", direction=file)
    chances = scope.look("probe", direction=file, mode="probability")
    assert scores.axes[0].labels == ("0", "1", "2")
    assert np.isnan(scores.values[1]).all()
    assert np.isnan(chances.values[1]).all()
    for layer in (0, 2):
        own, probe = by_hand(found, layer), found.probes[layer]
        assert scores.values[layer] == pytest.approx(own, abs=1e-4)
        p = 1 / (1 + np.exp(-(probe.slope * own + probe.intercept)))
        assert chances.values[layer] == pytest.approx(p, abs=1e-4)
    assert (scores.unit, chances.unit) == ("class gaps", "probability")


def test_one_layer_along_the_prompt(scope, found, file):
    scope.record(IDS)
    best = scope.look("probe", direction=file, mode="tokens")
    assert best.extra["layer"] == found.best
    assert best.values == pytest.approx(by_hand(found, found.best), abs=1e-4)
    for asked, layer in ((0, 0), (1, 0), (2, 2), (-1, 2)):
        figure = scope.look("probe", direction=file, mode="layer", layer=asked)
        assert figure.extra["layer"] == layer
        assert figure.title == f"Probe · score after layer {layer}"
        assert figure.values == pytest.approx(by_hand(found, layer), abs=1e-4)
    assert best.extra["probability"].shape == best.values.shape


def test_the_figure_tells_what_was_measured(scope, found, file):
    scope.record(IDS)
    extra = scope.look("probe", direction=file).extra
    for layer, told in extra["held_out"].items():
        figures = found.probes[int(layer)].figures
        assert told["auc"] == figures.held_out.auc.value
        assert told["shuffled_auc"] == figures.shuffled.auc.mean
    assert extra["caption"][0].startswith("difference of means of pairs; held-out AUC after layer")
    assert (extra["method"], extra["fitted_position"], extra["best"]) == (
        *("mean", "last", found.best),
    )


def test_an_edited_pass_is_read_and_its_difference_is_the_dose(scope, found, file):
    """A direction added to the stream moves its own score by the strength."""
    recording = scope.record(IDS, edits=[f"steer 2 {file}:direction.2 0.5"])
    moved = scope.look("probe", recording=recording, direction=file, change=True).values
    assert moved[2] == pytest.approx(np.full(len(IDS), 0.5), abs=1e-4)
    assert moved[0] == pytest.approx(np.zeros(len(IDS)), abs=1e-4)


def test_a_probe_of_nothing_is_marked_and_partial(scope, tmp_path):
    random = np.random.default_rng(0)
    some = [
        LabelledText(" ".join(map(str, random.integers(1, 90, 6))), bool(at % 2), f"g{at}", at)
        for at in range(120)
    ]
    path = tmp_path / "nothing.safetensors"
    write_directions(fit_direction(scope, some, SOME), path)
    scope.record(IDS)
    figure = scope.look("probe", direction=str(path))
    assert figure.verdict.status == "partial"
    assert "shuffled labels are told apart as well" in figure.verdict.reason
    assert figure.extra["doubtful"] == (0, 2)


def test_a_leak_and_another_width_are_told(scope, tmp_path):
    path = tmp_path / "direction.safetensors"
    write_directions(fit_direction(scope, ids_texts(), replace(SOME, split="random")), path)
    scope.record(IDS)
    verdict = scope.look("probe", direction=str(path)).verdict
    assert (verdict.status, verdict.reason[:7]) == ("partial", "leaks: ")
    town = llmscope.load("builtin:town", device="cpu", dtype="float32")
    town.record("the cat")
    refused = town.look("probe", direction=str(path)).verdict
    assert refused.status == "refused"
    assert "the direction is for streams of width 48" in refused.reason


def test_without_a_direction_it_says_how_to_give_one(scope):
    scope.record(IDS)
    figure = scope.look("probe")
    assert figure.missing == "direction"
    assert "direction=FILE" in figure.verdict.reason
