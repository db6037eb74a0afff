"""Gradients of a metric with respect to named tensors, against torch and finite differences."""

import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from tests.all_families import small_model as any_model
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8]
PLACES = {
    "llama": ("model.layers", "self_attn", "mlp", "self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("transformer.h", "attn", "mlp", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp", "attention.dense", "mlp.dense_4h_to_h"),
}


def metric(logits):
    return logits[7] - 0.5 * logits.logsumexp(-1)


def first(output):
    return output[0] if isinstance(output, tuple) else output


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-4 * float(own.abs().max()) + 1e-8


@pytest.mark.parametrize("family", PLACES)
@pytest.mark.parametrize("position", [-1, 3])
def test_they_are_those_of_a_backward_pass_by_hand(family, position):
    model = small_model(family)
    scope = llmscope.wrap(model)
    scope.record(IDS)
    layers, attention, mlp, out, down = PLACES[family]
    seen, handles = {}, []

    def keep(name, tensor):
        tensor.retain_grad()
        seen[name] = tensor

    for at, layer in enumerate(model.get_submodule(layers)):
        for name, path in (("attn_out", attention), ("mlp_out", mlp), ("resid_post", "")):
            module = layer.get_submodule(path) if path else layer
            handles.append(
                module.register_forward_hook(
                    lambda _, args, output, key=f"layers.{at}.{name}": keep(key, first(output))
                )
            )
        for name, path in (("z", out), ("mlp_act", down)):
            handles.append(
                layer.get_submodule(path).register_forward_pre_hook(
                    lambda _, args, key=f"layers.{at}.{name}": keep(key, args[0])
                )
            )
    metric(model(torch.tensor([IDS])).logits[0, position]).backward()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    kinds = ("attn_out", "mlp_out", "resid_post", "z", "mlp_act")
    found = scope.gradients(metric, [f"layers.*.{kind}" for kind in kinds], position=position)
    assert set(found) == set(seen)
    for name, gradient in found.items():
        near(gradient.flatten(1), seen[name].grad[0])
    assert all(one.grad is None for one in model.parameters())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_a_step_along_them_changes_the_metric_as_they_say(kind, monkeypatch):
    model = small_model("llama")
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    name = f"layers.1.{kind}"
    gradient = scope.gradients(metric, name)[name]
    assert gradient.shape == recording.cache()[name].shape
    step, ends = 0.05 * gradient / gradient.norm(), []
    attend, place = torch.nn.functional.scaled_dot_product_attention, "qkv".index(kind)
    for sign in (1, -1):
        calls = []

        def moved(*args, calls=calls, sign=sign, **options):
            calls.append(1)
            if len(calls) == 2:  # the second layer
                given = list(args)
                by = step.repeat_interleave(given[place].shape[1] // len(step), 0)
                given[place] = given[place] + sign * by[None]
                args = tuple(given)
            return attend(*args, **options)

        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", moved)
            ends.append(float(metric(model(torch.tensor([IDS])).logits[0, -1])))
        assert len(calls) == 3
    assert ends[0] - ends[1] == pytest.approx(2 * 0.05 * float(gradient.norm()), rel=3e-2)


def test_the_embedding_gives_saliency():
    scope = llmscope.wrap(small_model("llama"))
    recording = scope.record(IDS)
    gradient = scope.gradients(metric, "embed")["embed"]
    figure = scope.look("saliency", metric=metric)
    near((gradient * recording.cache()["embed"]).sum(-1), torch.tensor(figure.values))


def test_what_has_no_gradient_is_said():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    with pytest.raises(ScopeError, match="pattern is no tensor"):
        scope.gradients(metric, "layers.1.pattern")
    with pytest.raises(ScopeError, match="the metric gives no gradient"):
        scope.gradients(lambda logits: float(logits[7]), "layers.1.mlp_out")
    with pytest.raises(KeyError, match="did you mean"):
        scope.gradients(metric, "layers.1.mlp_oot")
    with pytest.raises(ValueError, match="position 9 is out of range"):
        scope.gradients(metric, "embed", position=9)
    scope.record(IDS, edits=["zero mlp 1"])
    with pytest.raises(ScopeError, match="the recording is edited"):
        scope.gradients(metric, "embed")


def test_queries_keys_and_values_come_together():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    names = [f"layers.1.{kind}" for kind in "qkv"]
    together = scope.gradients(metric, "layers.1.[qkv]")
    assert list(together) == names
    for name in names:
        near(together[name], scope.gradients(metric, name)[name])


def test_heads_before_a_gate_are_refused():
    scope = llmscope.wrap(any_model("afmoe"))
    scope.record(IDS)
    with pytest.raises(ScopeError, match="has no z of its own"):
        scope.gradients(metric, "layers.1.z")


def test_wrong_arguments_are_named():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    with pytest.raises(TypeError, match="metric must be a function, not None"):
        scope.gradients(None, "embed")
    with pytest.raises(ValueError, match="names is empty"):
        scope.gradients(metric, [])
