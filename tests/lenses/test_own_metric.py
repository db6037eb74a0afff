"""Metrics of one's own: ablation, patching and saliency of a function of the logits."""

import json

import numpy as np
import pytest
import torch

import llmscope
from llmscope.export import snapshot_schema
from llmscope.lenses import lens
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8]
STEP = 0.02  # the norms compute in float32, and leave noise of 1e-7
OTHER = [5, 17, 9, 60, 17, 42, 8]


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture
def scope(model):
    scope = llmscope.wrap(model)
    scope.record(IDS)
    return scope


def entropy(logits):
    p = logits.softmax(-1)
    return -(p * p.clamp_min(1e-30).log()).sum()


def logit_difference(logits):
    return logits[7] - logits[9]


def test_a_logit_difference_is_what_target_and_versus_give(scope):
    for name, options in (
        ("ablation", {"mode": "heads"}),
        ("ablation", {"mode": "parts-mean"}),
        ("patching", {"versus_prompt": OTHER}),
    ):
        own = scope.look(name, metric=logit_difference, **options)
        wanted = scope.look(name, target=7, versus=9, **options)
        np.testing.assert_allclose(own.values, wanted.values, rtol=1e-5, atol=1e-6)
        assert "logit_difference" in own.title
        assert own.verdict == wanted.verdict
    assert scope.look("ablation", metric=logit_difference).unit == "metric"


def test_saliency_of_a_log_probability_is_that_of_the_target(scope):
    def log_probability(logits):
        return logits.log_softmax(-1)[7]

    for mode in ("gradient", "integrated"):
        own = scope.look("saliency", metric=log_probability, mode=mode)
        wanted = scope.look("saliency", target=7, mode=mode)
        np.testing.assert_allclose(own.values, wanted.values, rtol=1e-4, atol=1e-6)
        assert own.extra["value"] == pytest.approx(wanted.extra["log_probability"])


def test_each_ablation_is_the_metric_of_a_pass_with_a_hook(model, scope):
    found = scope.look("ablation", metric=entropy)
    heads = model.config.num_attention_heads
    with torch.no_grad():
        before = entropy(model(torch.tensor([IDS])).logits[0, -1])
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        module = model.model.layers[layer].self_attn.o_proj
        width = module.in_features // heads

        def zero(_, args, first=head * width, last=(head + 1) * width):
            altered = args[0].clone()
            altered[..., first:last] = 0
            return (altered,)

        handle = module.register_forward_pre_hook(zero)
        with torch.no_grad():
            after = entropy(model(torch.tensor([IDS])).logits[0, -1])
        handle.remove()
        assert found.values[layer, head] == pytest.approx(float(after - before), abs=2e-5)


def test_the_gradient_is_that_of_finite_differences(model, scope):
    found = scope.look("saliency", metric=entropy)
    embeddings = model.get_input_embeddings()(torch.tensor([IDS])).detach().double()
    exact = small_model("llama").double()
    exact.load_state_dict(model.state_dict())
    for place in (0, 3, 6):
        step = torch.zeros_like(embeddings)
        step[0, place] = embeddings[0, place] * STEP
        with torch.no_grad():
            ends = [
                entropy(exact(inputs_embeds=embeddings + sign * step).logits[0, -1])
                for sign in (1, -1)
            ]
        slope = float(ends[0] - ends[1]) / (2 * STEP)
        assert found.values[place] == pytest.approx(slope, rel=5e-3, abs=3e-5)


def test_what_a_metric_closes_over_is_read_each_time(scope):
    factor = 1.0

    def scaled(logits):
        return factor * logits[7]

    first = scope.look("ablation", metric=scaled).values
    factor = 3.0
    np.testing.assert_allclose(scope.look("ablation", metric=scaled).values, 3 * first, rtol=1e-5)


def test_a_metric_is_refused_where_it_makes_no_sense(scope):
    with pytest.raises(TypeError, match="metric must be a function"):
        scope.look("ablation", metric="entropy")
    with pytest.raises(ValueError, match="metric stands in place of target"):
        scope.look("ablation", metric=entropy, target=7)
    with pytest.raises(ValueError, match="reads metric in the modes heads, heads-mean, parts"):
        scope.look("ablation", metric=entropy, mode="heads-kl")
    with pytest.raises(ValueError, match="metric must return one number"):
        scope.look("ablation", metric=lambda logits: logits)
    with pytest.raises(ValueError, match="has no option 'metric'"):
        scope.look("attention", metric=entropy)
    flat = scope.look("saliency", metric=lambda logits: float(logits[7]))
    assert flat.verdict.reason == "the metric gives no gradient"


def test_it_is_no_option_of_the_command_line_and_files_name_it(scope):
    from llmscope.lenses import command_options, focus_dict, focus_from

    assert "metric" not in [option.name for option in command_options()]
    assert focus_dict(focus_from({"metric": entropy}))["metric"] == "entropy"
    assert "metric" in json.dumps(snapshot_schema())
    for name in ("ablation", "patching", "saliency"):
        assert "metric" in lens(name).uses


def test_the_scale_of_a_metric_does_not_matter(scope):
    wanted = scope.look("patching", versus_prompt=OTHER, metric=logit_difference)
    small = scope.look(
        "patching", versus_prompt=OTHER, metric=lambda logits: 1e-4 * logit_difference(logits)
    )
    np.testing.assert_allclose(small.values, wanted.values, rtol=1e-3, atol=1e-4)
    same = scope.look("patching", versus_prompt=OTHER, metric=lambda logits: logits.sum() * 0 + 5)
    assert "there is no difference" in same.verdict.reason
