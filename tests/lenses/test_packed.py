"""Weights that are packed, with or without a gradient: the same numbers, or a reason."""

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, get_peft_model
from torch import nn

import llmscope
from llmscope.lenses import lens, names
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.lenses.asked import options_for

IDS = [5, 17, 3, 4, 17, 42]


class Packed(nn.Module):
    """A linear layer whose weights are whole numbers in another shape, as quantisers keep them.

    Args:
        gradient: whether its kernel knows one.
    """

    def __init__(self, linear, gradient):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.detach().abs().max() / 127)
        whole = (linear.weight / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(whole.reshape(-1, 1), requires_grad=False)
        self.gradient = gradient

    @property
    def meant(self):
        return self.weight.reshape(self.out_features, self.in_features).float() * self.scale

    def forward(self, rows):
        with torch.set_grad_enabled(self.gradient and torch.is_grad_enabled()):
            return nn.functional.linear(rows, self.meant)


def pair(gradient, head=False):
    """A scope on a model with packed weights, and one on what they mean."""
    packed, plain = small_model("llama"), small_model("llama")
    plain.load_state_dict(packed.state_dict())
    places = [
        (module, name, child, plain.get_submodule(f"{path}.{name}" if path else name))
        for path, module in packed.named_modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Linear) and (head or name != "lm_head")
    ]
    for module, name, child, other in places:
        replaced = Packed(child, gradient)
        with torch.no_grad():
            other.weight = nn.Parameter(replaced.meant)
        setattr(module, name, replaced)
    return scope_of(packed), scope_of(plain)


def scope_of(model):
    device = next(model.parameters()).device
    return Scope(LoadedModel("test", "test", model, None, find(model), device, torch.float32))


@pytest.mark.parametrize("gradient", [True, False], ids=["gradient", "none"])
def test_attribution_is_that_of_what_the_weights_mean(gradient):
    packed, plain = pair(gradient)
    packed.record(IDS)
    plain.record(IDS)
    for mode in lens("attribution").modes:
        asked = options_for("attribution", mode=mode, layer=1)
        ours, theirs = (scope.look("attribution", **asked) for scope in (packed, plain))
        if mode == "experts":  # the model has none
            assert ours.verdict == theirs.verdict
            assert ours.verdict.reason == "this layer has no experts"
            continue
        assert ours.verdict.status == theirs.verdict.status == "verified", ours.verdict
        assert ours.axes == theirs.axes
        assert np.allclose(ours.values, theirs.values, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("head", [False, True], ids=["", "unembedding"])
def test_every_lens_shows_or_refuses(head):
    packed, _ = pair(False, head=head)
    packed.record(IDS)
    for name in names():
        for mode in lens(name).modes or ("",):
            figure = packed.look(name, mode=mode)
            assert figure.verdict.status != "refused" or figure.verdict.reason
    for name in ("saliency", *(("attribution",) if head else ())):
        figure = packed.look(name)
        assert figure.verdict.status == "refused"
        assert "gradient" in figure.verdict.reason


def test_stages_read_an_adalora_as_what_it_adds(tmp_path):
    base = small_model("llama")
    base.save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    config = AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules=["q_proj", "v_proj"], lora_alpha=8
    )
    tuned = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name and parameter.is_floating_point():
                parameter.normal_(std=0.2)
    tuned.save_pretrained(tmp_path / "adapter")
    scope = llmscope.load(tmp_path / "base", adapters=[tmp_path / "adapter"], device="cpu")
    scope.record(IDS)
    figure = scope.look("stages", mode="weights")
    assert figure.verdict.status == "verified", figure.verdict
    module = tuned.base_model.model.model.layers[1].self_attn.q_proj
    delta = module.get_delta_weight("default").double()
    wanted = float(delta.norm() / module.get_base_layer().weight.double().norm())
    column = figure.axes[1].labels.index("q")
    assert figure.values[1, column] == pytest.approx(wanted, rel=1e-5)
    for mode in lens("stages").modes:
        scope.look("stages", mode=mode)
