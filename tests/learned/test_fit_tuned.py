"""Fitted tuned lenses, and the measurement on held-out text, against sums by hand."""

from dataclasses import replace

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.fit_lens import fit_tuned as module
from llmscope.jobs.fit_lens.check import measure
from llmscope.jobs.fit_lens.corpus import CorpusRules, corpus
from llmscope.jobs.fit_lens.fit_tuned import TunedFit, differentiable_logits, fit_tuned
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from tests.family_matrix import scope_of
from tests.learned.texts import TEXTS
from tests.lenses.test_experts import scope_on

RULES = CorpusRules(skip=2, length=40, held_out=5)
pytestmark = pytest.mark.xdist_group("fits")


@pytest.fixture(scope="module")
def town():
    with llmscope.load("builtin:town") as scope:
        yield scope


def by_hand(scope, prompts, stream, way):
    """KL(model ‖ reading) in nats and agreement of each token, through plain transformers."""
    model, kl, top1 = scope.model, [], []
    for prompt in prompts:
        with torch.no_grad():
            whole = model(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
            if stream < len(model.model.layers):
                hidden = whole.hidden_states[stream][0]
                logits = model.lm_head(model.model.norm(way(hidden))).double()
            else:
                logits = whole.logits[0].double()
        own = whole.logits[0].double()
        for at in range(2, len(prompt.ids) - 1):
            p, q = own[at].log_softmax(-1), logits[at].log_softmax(-1)
            kl.append(float((p.exp() * (p - q)).sum()))
            top1.append(bool(own[at].argmax() == logits[at].argmax()))
    return torch.tensor(kl), torch.tensor(top1)


def held_out(scope, count=4):
    return [one for one in corpus(scope, TEXTS[:20], RULES) if one.held_out][:count]


@pytest.mark.parametrize("kind", ["jacobian", "tuned"])
def test_held_out_figures_are_the_means_of_each_token(town, kind):
    generator = torch.Generator().manual_seed(2)
    places = range(1, 6) if kind == "jacobian" else range(6)
    maps = {
        place: AffineMap(
            torch.eye(96) * (kind == "jacobian") + torch.randn(96, 96, generator=generator) / 40,
            None if kind == "jacobian" else torch.randn(96, generator=generator) / 10,
            adds=kind == "tuned",
        )
        for place in places
    }
    lens, prompts = LearnedLens(kind, maps, 96, 6), held_out(town)
    with town.unchanged():
        found = measure(lens, town.recorder, prompts)
    assert (found.prompts, found.tokens) == (4, sum(len(one.ids) - 3 for one in prompts))
    for stream in (0, 2, 5, 6):
        own = maps.get(stream, lambda hidden: hidden)
        kl, top1 = by_hand(town, prompts, stream, own)
        plain, plain_top1 = by_hand(town, prompts, stream, lambda hidden: hidden)
        assert found.lens.kl[stream] == pytest.approx(float(kl.double().mean()), rel=1e-4, abs=1e-6)
        assert found.lens.top1[stream] == pytest.approx(float(top1.double().mean()))
        assert found.logit.kl[stream] == pytest.approx(float(plain.mean()), rel=1e-4, abs=1e-6)
        assert found.logit.top1[stream] == pytest.approx(float(plain_top1.double().mean()))
        worse = (plain - kl).double()
        mean, error = found.logit.worse[stream]
        assert mean == pytest.approx(float(worse.mean()), rel=1e-3, abs=1e-6)
        # Clusters: how far each prompt's sum is from what its number of tokens would give.
        counts = [len(one.ids) - 3 for one in prompts]
        sums = torch.stack([part.sum() for part in worse.split(counts)])
        off = sums - worse.mean() * torch.tensor(counts)
        expected = (off.square().sum() * 4 / 3).sqrt() / len(worse)
        assert error == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


def test_the_baseline_of_a_jacobian_lens_has_the_matrices_of_other_layers(town):
    maps = {place: AffineMap(torch.eye(96) * place) for place in range(1, 6)}
    lens, prompts = LearnedLens("jacobian", maps, 96, 6), held_out(town, 2)
    with town.unchanged():
        found = measure(lens, town.recorder, prompts)
    others = lens.shifted().maps
    assert sorted(others) == sorted(maps)
    assert all(others[place] is not maps[place] for place in maps)
    kl, _ = by_hand(town, prompts, 3, others[3])
    assert found.baseline.kl[3] == pytest.approx(float(kl.mean()), rel=1e-4)


@pytest.mark.slow
def test_the_baseline_of_a_tuned_lens_is_the_best_of_shuffled_pairs(town):
    """No lens fitted on shuffled pairs gets below the mean of the model's distributions."""
    prompts = held_out(town)
    shuffled = fit_of(town)
    with town.unchanged():
        found = measure(shuffled, town.recorder, prompts)
    assert len(set(found.baseline.kl[:6])) == 1
    logs = []
    for prompt in prompts:
        with torch.no_grad():
            logits = town.model(input_ids=torch.tensor([prompt.ids])).logits[0, 2:-1].double()
        logs.append(logits.log_softmax(-1))
    whole = torch.cat(logs)
    mean = whole.exp().mean(0)
    kl = (whole.exp() * (whole - mean.log())).sum(-1).mean()
    assert found.baseline.kl[0] == pytest.approx(float(kl), rel=1e-4)


def fit_of(town, **more):
    return fit_tuned(town, TEXTS[:40], TunedFit(RULES, **more))


@pytest.mark.slow
def test_steps_lower_the_divergence_on_held_out_text(town):
    before, after = (fit_of(town, steps=steps).held_out for steps in (0, 60))
    for stream in range(6):
        assert after.lens.kl[stream] < before.lens.kl[stream] < before.logit.kl[stream]
        # Of 32 prompts: the embedding of a token tells little more than that there is a token.
        assert not stream or not after.no_better(stream)
    assert after.lens.kl[6] == 0
    assert after.lens.top1[6] == 1


def test_the_regression_finds_an_affine_map():
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(8, 8, generator=generator), torch.randn(8, generator=generator)
    sums = module._Regression(1, 8)
    for _ in range(20):
        x = torch.randn(30, 8, generator=generator)
        sums.add(torch.stack([x, x + x @ weight.T + bias]))
    found, offset = sums.solve()
    assert torch.allclose(found[0], weight, atol=2e-2)  # the ridge pulls a little
    assert torch.allclose(offset[0], bias, atol=2e-2)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "granite", "opt"])
def test_differentiable_logits_are_the_readouts(family):
    readout = scope_on(family).loaded_model.anatomy.readout
    rows = torch.randn(5, 48, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.allclose(differentiable_logits(readout, rows), readout(rows), atol=1e-6)
    rows.requires_grad_()
    differentiable_logits(readout, rows).square().sum().backward()
    assert float(rows.grad.abs().sum()) > 0


def test_a_fit_that_memory_cannot_hold_is_refused(town, monkeypatch):
    monkeypatch.setattr(module, "available", lambda _: 1000)
    with pytest.raises(ScopeError, match=r"and 0\.0 GiB are free"):
        fit_of(town)


def test_nothing_of_the_model_is_changed(town):
    before = {name: one.clone() for name, one in town.model.state_dict().items()}
    fit_of(town, steps=3)
    assert all(torch.equal(before[name], one) for name, one in town.model.state_dict().items())
    assert all(one.grad is None for one in town.model.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_in_half_precision_are_fitted(dtype):
    with llmscope.load("builtin:town", dtype=dtype) as scope:
        lens = fit_tuned(scope, TEXTS[:10], TunedFit(RULES, steps=3))
        assert lens.held_out.lens.kl[5] < lens.held_out.logit.kl[5]


def test_a_readout_that_is_not_the_models_is_refused():
    scope = scope_of("bigbird_pegasus")
    with pytest.raises(ScopeError, match="streams of the model cannot be read"):
        scope.fit_lens(TEXTS, "tuned")


def test_what_was_measured_holds_until_the_model_changes(town):
    with llmscope.load("builtin:town") as scope:
        scope.record("anna has a cat")
        for _ in range(2):
            figure = scope.look("logit-lens", mode="layer", layer=4, translator="jacobian")
            assert figure.verdict.status == "verified"
        with torch.no_grad():
            scope.model.model.layers[0].mlp.down_proj.weight.add_(0.01)
        scope.record("anna has a cat")
        figure = scope.look("logit-lens", mode="layer", layer=4, translator="jacobian")
        assert figure.verdict.reason == "the model has changed since the lens was fitted or loaded"
        lens = fit_tuned(scope, TEXTS[:20], TunedFit(RULES, steps=3))
        scope.record("anna has a cat")
        figure = scope.look("logit-lens", mode="layer", layer=4, translator=lens)
        assert "changed" not in figure.verdict.reason


def test_a_stopped_fit_goes_on_behind_its_prompts_and_steps(town, tmp_path):
    fit = TunedFit(RULES, prompts=5, steps=4, checkpoint=tmp_path / "sums")
    whole, notes = fit_tuned(town, TEXTS[:8], replace(fit, checkpoint=None)), []
    for stop in (3, "divergence", "measuring"):

        def interrupt(state, stop=stop):
            there = state.prompts == stop or (isinstance(stop, str) and stop in state.stage)
            if there and (state.share or not state.stage):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit_tuned(town, TEXTS[:8], fit, interrupt, notes.append)
    again = fit_tuned(town, TEXTS[:8], fit, note=notes.append)
    assert notes == [
        "going on behind 3 finished prompts",
        "going on behind 5 finished prompts and 1 step",
        "going on behind 5 finished prompts and 4 steps",
    ]
    assert (again.about, again.held_out) == (whole.about, whole.held_out)
    for stream, own in whole.maps.items():
        assert torch.equal(again.maps[stream].weight, own.weight)
        assert torch.equal(again.maps[stream].bias, own.bias)
    with pytest.raises(ScopeError, match=r"other options .rate: 0[.]001 there, 0[.]5 here"):
        fit_tuned(town, TEXTS[:8], replace(fit, rate=0.5))
    with pytest.raises(ScopeError, match="not those that the checkpoint was made of"):
        fit_tuned(town, TEXTS[1:9], fit)
    hook = town.model.model.layers[1].mlp.register_forward_hook(lambda *given: given[-1] * 1.5)
    with pytest.raises(ScopeError, match="with the model in another state"):
        fit_tuned(town, TEXTS[:8], fit)
    hook.remove()
