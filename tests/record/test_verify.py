"""Verdicts: they hold on what is right, and break on what is wrong."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from llmscope.models.anatomy import find
from llmscope.record.verify import CAPABILITIES, verify
from tests.families import FAMILIES, small_model
from tests.record.conftest import recorder_for

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_capability_is_verified(family, dtype):
    verdicts = verify(recorder_for(small_model(family).to(dtype)))
    assert {c: verdicts(c).status for c in CAPABILITIES} == dict.fromkeys(CAPABILITIES, "verified")


def broken(model, capability):
    """The anatomy of the model with one wrong belief in its middle layer, or its readout."""
    anatomy = find(model)
    layers = list(anatomy.layers)
    middle, last = layers[1], layers[-1]
    if capability == "readout":
        identity = replace(anatomy.readout, norm=nn.Identity())
        return {"readout": identity}
    wrong = {
        "writes": {"attention_write": middle.mlp_write},
        "patterns": {"attention_out": last.attention_out},
        "activations": {"down": last.down},
    }[capability]
    layers[1] = replace(middle, **wrong)
    return {"layers": tuple(layers)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_wrong_belief_is_refused_where_it_is_wrong(family, capability, dtype):
    model = small_model(family).to(dtype)
    verdicts = verify(recorder_for(model, **broken(model, capability)))
    verdict = verdicts(capability, 1)
    assert verdict.status == "refused"
    assert verdict.reason
    if capability != "readout":
        assert verdicts(capability).status == "partial"
        assert verdicts(capability, 0).status == "verified"


def test_a_model_whose_attention_cannot_be_routed_says_why(monkeypatch):
    model = small_model("llama")
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", classmethod(lambda cls: False))
    verdict = verify(recorder_for(model))("patterns")
    assert verdict.status == "refused"
    assert "LlamaForCausalLM" in verdict.reason


def test_a_model_that_makes_nan_is_refused_not_shown():
    model = small_model("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.fill_(torch.nan)
    verdicts = verify(recorder_for(model))
    assert verdicts("readout").status == "refused"
    assert verdicts("activations", 1).status == "refused"
    assert verdicts("activations", 0).status == "verified"
