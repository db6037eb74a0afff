"""BERT and its heirs as decoders: attention, MLP and head stand in modules that do more."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive.verify import verify
from llmscope.scope.scope import Scope
from tests.all_families import small_model
from tests.record.conftest import recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]

# family -> the final norm, if there is one, and what makes logits of the last stream, in order.
HEADS = {
    "bert": ("cls",),
    "electra": ("generator_predictions", "generator_lm_head"),
    "megatron-bert": ("bert.encoder.ln", "cls"),
    "modernbert-decoder": ("model.final_norm", "lm_head", "decoder"),
    "roberta": ("lm_head",),
    "roberta-prelayernorm": ("roberta_prelayernorm.LayerNorm", "lm_head"),
    "xlm-roberta-xl": ("roberta.encoder.LayerNorm", "lm_head"),
}


def scope_of(model):
    return Scope(LoadedModel("", "", model, None, find(model), model.device, model.dtype))


@pytest.mark.parametrize("family", HEADS)
def test_the_readout_of_any_stream_is_the_models_own_head(family):
    scope, plain = scope_of(small_model(family)), small_model(family)
    assert scope.verdicts("readout").status == "verified"
    stream = torch.randn(6, 48, generator=torch.Generator().manual_seed(1))
    own = stream[None]
    with torch.no_grad():
        for path in HEADS[family]:
            own = plain.get_submodule(path)(own)
    found = scope.loaded_model.anatomy.readout(stream)
    assert float((found - own[0]).abs().max()) <= 1e-5 * float(own.abs().max())


def test_a_head_is_no_norm_that_is_held_still():
    scope = scope_of(small_model("bert"))
    scope.record(IDS)
    figure = scope.look("attribution", mode="layers")
    assert figure.verdict.status == "refused"
    assert "no scale that can be held still" in figure.verdict.reason


def test_the_walkthrough_shows_the_head_as_one_step():
    scope = scope_of(small_model("bert"))
    scope.record(IDS)
    figure = scope.look("walkthrough", layer=1)
    steps = {step["name"]: step for step in figure.extra["steps"]}
    assert {"head", "logits", "output projection", "activation"} <= steps.keys()
    assert "head" not in figure.verdict.reason


@pytest.mark.parametrize("count", [1, 2, 3])
def test_token_types_are_not_taken_for_positions_in_a_short_prompt(count):
    """There are two types, so that two tokens could have their vectors by position."""
    scope = scope_of(small_model("bert"))
    scope.record(IDS[:count])
    place = count - 1
    step = scope.look("walkthrough", layer=1).extra["steps"][2]
    assert (step["name"], step["reason"]) == ("position embedding", "")
    figure = scope.look("walkthrough", layer=1, mode="values", step=2, position=place)
    table = scope.model.bert.embeddings.position_embeddings.weight.detach().numpy()
    assert np.abs(figure.values[place] - table[place]).max() <= 1e-6


@pytest.mark.parametrize(
    ("capability", "wrong"),
    [
        ("patterns", {"attention_out": nn.Linear(48, 48)}),
        ("activations", {"activation": nn.Tanh()}),
    ],
)
def test_a_wrong_belief_is_refused(capability, wrong):
    model = small_model("bert")
    layers = list(find(model).layers)
    layers[1] = replace(layers[1], **wrong)
    verdicts = verify(recorder_for(model, layers=tuple(layers)))
    assert verdicts(capability, 1).status == "refused"
    assert verdicts(capability, 2).status == "verified"


def test_a_head_of_attention_set_to_zero_is_so_in_the_model_itself():
    scope, plain = scope_of(small_model("bert")), small_model("bert")

    def without(_, args):
        joined = args[0].clone()
        joined[..., 12:24] = 0
        return (joined,)

    plain.get_submodule("bert.encoder.layer.1.attention.output.dense").register_forward_pre_hook(
        without
    )
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1].double()
    scope.record(IDS, edits=["zero head 1.1"])
    figure = scope.look("next-token", top_k=len(own))
    expected = torch.softmax(own, -1)[torch.tensor(figure.extra["ids"].copy())]
    assert float((torch.tensor(figure.values) - expected).abs().max()) <= 1e-6
