"""Layers that share the keys of earlier ones and keep none of their own: Gemma 3n and 4."""

import numpy as np
import pytest
import torch

from llmscope.record.derive import tensors
from tests.all_families import small_model
from tests.family_matrix import scope_of

FAMILIES = ("gemma4_text", "gemma3n_text")
IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]


def logits_of(family, ids, hooked=None):
    """Of a plain model, after each token, in which a module gives zero. [position, token]"""
    model = small_model(family)
    if hooked is not None:
        model.get_submodule(hooked).register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_runs_through_every_layer_and_stands_when_more_is_typed(family):
    scope = scope_of(family)
    plain = small_model(family, attn_implementation="eager").double()
    for length in (1, 4, 9, 10, 13):
        recording = scope.record(IDS[:length])
        assert recording.reused == {1: 0, 4: 1, 9: 4, 10: 9, 13: 10}[length]
        with torch.no_grad():
            batch = torch.tensor([IDS[:length]])
            own = plain(input_ids=batch, use_cache=False, output_attentions=True)
        for layer in range(3):
            found = tensors.pattern(recording, layer)
            np.testing.assert_allclose(found.numpy(), own.attentions[layer][0].numpy(), atol=5e-6)
        figure = scope.look("next-token", top_k=97)
        expected = torch.softmax(own.logits[0, -1], -1)[torch.tensor(figure.extra["ids"].copy())]
        np.testing.assert_allclose(figure.values, expected.numpy(), atol=5e-6)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_edit_of_a_typed_prompt_is_the_models_own(layer):
    scope = scope_of("gemma4_text")
    for length in (4, 9, 13):
        scope.record(IDS[:length])
    scope.record(IDS, edits=[f"zero mlp {layer}"])
    figure = scope.look("next-token", top_k=97)
    own = logits_of("gemma4_text", IDS, f"model.layers.{layer}.post_feedforward_layernorm")[-1]
    expected = torch.softmax(own.double(), -1)[torch.tensor(figure.extra["ids"].copy())]
    np.testing.assert_allclose(figure.values, expected.numpy(), atol=5e-6)


def test_an_ablation_is_the_models_own():
    scope = scope_of("gemma4_text")
    scope.record(IDS[:9])
    scope.record(IDS)
    figure = scope.look("ablation", mode="parts", target=7)
    assert figure.axes[1].labels[1] == "MLP"
    whole = logits_of("gemma4_text", IDS)[-1, 7]
    for layer in range(3):
        place = f"model.layers.{layer}.post_feedforward_layernorm"
        change = float(logits_of("gemma4_text", IDS, place)[-1, 7] - whole)
        assert figure.values[layer, 1] == pytest.approx(change, abs=2e-5)
