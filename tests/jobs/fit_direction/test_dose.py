"""Doses against hooks by hand on plain transformers, and their statistics against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmscope.corpus.progress import JobProgress
from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.dose import DoseRule, Measure, dose_response, measure_for, summary
from llmscope.jobs.fit_direction.fit import DirectionFit, fit_direction
from llmscope.record.derive.batching import PromptRunner
from tests.jobs.fit_direction.conftest import DOWN, UP, ids_texts

RULE = DoseRule(strength=1.0, tokens=(f"id:{UP}", f"id:{DOWN}"), prompts=6, random=2)


def with_dose(model, ids, layer, vector):
    """Return the last logits and the last layer's last stream with a vector added, in float64."""
    exact, seen = model, []

    def add(_, __, out):
        return (out[0] + vector, *out[1:]) if isinstance(out, tuple) else out + vector

    def look(_, __, out):
        seen.append((out[0] if isinstance(out, tuple) else out)[0, -1].double())

    layers = exact.model.layers
    hooks = [layers[layer].register_forward_hook(add), layers[-1].register_forward_hook(look)]
    with torch.no_grad():
        logits = exact(torch.tensor([ids])).logits[0, -1].double()
    for hook in hooks:
        hook.remove()
    return logits, seen[0]


@pytest.fixture(scope="module")
def fitted(planted):
    scope, model, _ = planted
    found = fit_direction(scope, ids_texts(), DirectionFit(dose=RULE, dose_layer=1, shuffles=2))
    return scope, model, found


def test_doses_are_those_of_hooks_by_hand(fitted):
    scope, model, found = fitted
    direction, dose = found.probes[1].direction, found.dose
    some = [one for one in ids_texts() if one.group == "g0"]
    rule = replace(RULE, prompts=len(some))
    runner = PromptRunner.of(scope.recorder)
    for tokens in (RULE.tokens, None):
        measure = measure_for(runner, replace(rule, tokens=tokens), found.probes, 1, "last")
        got = dose_response(runner, direction, 1, some, measure, rule, 0, JobProgress())
        changes = []
        for one in some:
            ids = [*map(int, one.text.split())]
            values = []
            for strength in rule.strengths:
                logits, stream = with_dose(model, ids, 1, strength * direction)
                logs = logits.log_softmax(-1)
                values.append(
                    float(found.probes[2].score(stream[None])[0])
                    if tokens is None
                    else float(logs[UP] - logs[DOWN])
                )
            changes.append(np.array(values) - values[4])
        assert [one.value for one in got.change] == pytest.approx(np.mean(changes, 0), abs=1e-4)
    assert dose.layer == 1
    assert dose.prompts == 6
    assert dose.measure == f"log p(‹id:{UP}›) − log p(‹id:{DOWN}›)"
    assert dose.strengths == (-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1)


def test_a_planted_direction_steers_and_random_ones_of_its_norm_do_not(fitted):
    _, _, found = fitted
    assert found.dose.monotone
    assert found.dose.slope.value > max(map(abs, found.dose.random_slopes))
    assert str(found.dose) == "steers with the dose"


def test_without_a_later_probe_nothing_is_measured(planted):
    scope = planted[0]
    found = fit_direction(
        scope, ids_texts(), DirectionFit(layers=(2,), dose=DoseRule(), shuffles=2)
    )
    assert found.dose is None


def test_a_measure_that_is_not_finite_is_refused(planted):
    runner = PromptRunner.of(planted[0].recorder)
    nan = Measure("nothing", lambda _: float("nan"))
    with pytest.raises(ScopeError, match="a dose makes the model's numbers infinite"):
        dose_response(runner, torch.ones(48), 0, ids_texts()[:2], nan, RULE, 0, JobProgress())


DOSES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def changes(slope, others=0.05, prompts=30, noise=0.2):
    """Changes that are lines through 0 with noise. [prompt, direction, dose]"""
    random = np.random.default_rng(0)
    slopes = np.array([slope, others, -others]) + noise * random.standard_normal((prompts, 3))
    return slopes[:, :, None] * np.array(DOSES)


def told(some, groups=30):
    names = [f"g{at % groups}" for at in range(len(some))]
    return summary(some, names, DOSES, 3, "it", 0)


def test_slopes_and_intervals_are_those_of_numpy():
    some = changes(1.0)
    found = told(some)
    lines = [np.linalg.lstsq(np.array(DOSES)[:, None], one[0], rcond=None)[0][0] for one in some]
    assert found.slope.value == pytest.approx(np.mean(lines))
    error = np.std(lines, ddof=1) / len(lines) ** 0.5
    assert found.slope.high - found.slope.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert [one.value for one in found.change] == pytest.approx(some[:, 0].mean(0))
    ranges = np.array([(one.low, one.high) for one in found.random])
    assert ranges == pytest.approx(np.sort(some[:, 1:].mean(0), axis=0).T)
    assert found.random_slopes == pytest.approx((some[:, 1:, 4].mean(0) / 2).tolist())


@pytest.mark.parametrize(
    ("some", "words"),
    [
        (changes(1.0), "steers with the dose"),
        (changes(-1.0), "does not steer with the dose: the change for a dose of 1 is not above 0"),
        (changes(0.0), "does not steer with the dose: the change for a dose of 1 is not above 0"),
        (changes(1.0, others=1.5), "a random direction of the same norm changes as much (1."),
        (changes(1.0) * (1, 1, 1, 1, 0.2), "the change does not grow at every dose"),
    ],
)
def test_what_is_said_of_doses(some, words):
    found = told(some)
    assert words in str(found)
    assert ("does not" in str(found)) == bool(found.doubt)


def test_one_group_tells_nothing_of_the_spread():
    found = told(changes(1.0), groups=1)
    assert (found.slope.low, found.slope.high) == (None, None)
    assert found.doubt
