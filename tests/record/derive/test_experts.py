"""Mixtures of experts against an untouched model, hooked or asked for its router's logits."""

from dataclasses import replace

import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.record.derive import experts
from llmscope.record.derive.experts import mixture_output, routing, unexplained
from llmscope.record.derive.verify import verify
from tests.families import MIXTURES, small_model
from tests.record.conftest import prompt_of, recorder_for
from tests.record.derive.test_verify import DTYPES

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]
SHARED = {"qwen2_moe": "shared_expert", "deepseek_v3": "shared_experts"}
WHERE = [(family, layer) for family, layers in MIXTURES.items() for layer in layers]
# The small jamba has experts in one layer only: here every layer must have another to mistake.
EVERYWHERE = {"jamba": {"expert_layer_period": 1, "expert_layer_offset": 0}}


def mlp(model, layer):
    block = model.model.layers[layer]
    return block.feed_forward if hasattr(block, "feed_forward") else block.mlp


@pytest.mark.parametrize("family", MIXTURES)
def test_scores_equal_the_routers_own_logits(family):
    recording = recorder_for(small_model(family)).record(prompt_of(IDS))
    with torch.no_grad():
        output = small_model(family)(input_ids=torch.tensor([IDS]), output_router_logits=True)
    own = [logits.reshape(len(IDS), 4).double() for logits in output.router_logits]
    assert len(own) == len(MIXTURES[family])
    for layer, logits in zip(MIXTURES[family], own, strict=True):
        found = routing(recording, layer)
        sigmoid = family == "deepseek_v3"
        assert found.scoring == ("sigmoid" if sigmoid else "softmax")
        scores = torch.sigmoid(logits) if sigmoid else torch.softmax(logits, -1)
        assert float((found.scores - scores).abs().max()) <= 1e-5


@pytest.mark.few(6)
@pytest.mark.parametrize(("family", "layer"), WHERE)
def test_choice_and_weights_are_what_the_experts_were_handed(family, layer):
    found = routing(recorder_for(small_model(family)).record(prompt_of(IDS)), layer)
    plain, handed = small_model(family), []
    mlp(plain, layer).experts.register_forward_pre_hook(
        lambda _, args, kwargs: handed.extend([*args, *kwargs.values()]), with_kwargs=True
    )
    with torch.no_grad():
        plain(input_ids=torch.tensor([IDS]))
    _, chosen, weights = handed
    assert torch.equal(found.chosen, chosen)
    assert float((found.weights - weights).abs().max()) <= 1e-5


def one_expert(family, experts, index, row):
    """One expert on one token, written out."""
    gate_up, down = experts.gate_up_proj[index], experts.down_proj[index]
    if family == "gpt_oss":
        both = row @ gate_up + experts.gate_up_proj_bias[index]
        gate, up = both[::2].clamp(max=7.0), both[1::2].clamp(-7.0, 7.0)
        hidden = (up + 1) * gate * torch.sigmoid(1.702 * gate)
        return hidden @ down + experts.down_proj_bias[index]
    gate, up = (gate_up @ row).chunk(2)
    return down @ (torch.nn.functional.silu(gate) * up)


@pytest.mark.few(6)
@pytest.mark.parametrize(("family", "layer"), WHERE)
def test_the_mixture_by_hand_is_what_the_mlp_wrote(family, layer):
    recording = recorder_for(small_model(family)).record(prompt_of(IDS))
    found, entry = routing(recording, layer), recording.rows("mlp_input_module", layer).double()
    block = mlp(small_model(family).double(), layer)
    total = torch.zeros_like(entry)
    with torch.no_grad():
        for row in range(len(IDS)):
            for expert, weight in zip(found.chosen[row], found.weights[row], strict=True):
                total[row] += weight * one_expert(family, block.experts, expert, entry[row])
        if family in SHARED:
            always = getattr(block, SHARED[family])(entry)
            if family == "qwen2_moe":
                always = always * torch.sigmoid(block.shared_expert_gate(entry))
            total += always
    for own in (recording.rows("mlp_write", layer), mixture_output(recording, layer)):
        assert float((total - own).abs().max()) <= 1e-5 * float(own.abs().max())


@pytest.mark.few(5)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", MIXTURES)
def test_another_layers_router_is_refused(family, dtype):
    model = small_model(family, **EVERYWHERE.get(family, {})).to(dtype)
    layers = list(find(model).layers)
    assert verify(recorder_for(model))("experts", 2).status == "verified"
    layers[2] = replace(layers[2], router=layers[1].router)
    verdict = verify(recorder_for(model, layers=tuple(layers)))("experts", 2)
    assert verdict.status == "refused"
    assert verdict.discrepancy


@pytest.mark.few(5)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", MIXTURES)
def test_another_score_function_is_refused(family, dtype, monkeypatch):
    layer = MIXTURES[family][-1]
    model = small_model(family).to(dtype)
    right = routing(recorder_for(model).record(prompt_of(IDS)), layer)
    wrong = "softmax" if right.scoring == "sigmoid" else "sigmoid"
    monkeypatch.setattr(experts, "_scoring", lambda *_: wrong)
    assert verify(recorder_for(model))("experts", layer).status == "refused"


def test_a_model_of_one_choice_whose_weight_says_nothing_is_refused():
    told = small_model("qwen3_moe", num_experts_per_tok=1, norm_topk_prob=False)
    assert verify(recorder_for(told))("experts").status == "verified"
    untold = small_model("qwen3_moe", num_experts_per_tok=1, norm_topk_prob=True)
    verdict = verify(recorder_for(untold))("experts")
    assert verdict.status == "refused"
    assert "do not tell its scores" in verdict.reason


def test_the_score_function_does_not_hang_on_the_prompt():
    for family in ("mixtral", "deepseek_v3"):
        recorder = recorder_for(small_model(family))
        one = routing(recorder.record(prompt_of(IDS[:1])), 2)
        assert one.scoring == routing(recorder.record(prompt_of(IDS), fresh=True), 2).scoring


def test_a_router_that_gives_something_else_is_refused_with_the_reason():
    model = small_model("mixtral")
    layers = list(find(model).layers)
    layers[1] = replace(layers[1], router=layers[1].experts)
    verdict = verify(recorder_for(model, layers=tuple(layers)))("experts", 1)
    assert verdict.status == "refused"
    assert "no router whose choice" in verdict.reason


def test_nan_is_refused():
    model = small_model("mixtral")
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj.fill_(torch.nan)
    verdicts = verify(recorder_for(model))
    assert verdicts("experts", 0).status == "verified"
    assert verdicts("experts", 1).status == "refused"


def test_weights_that_are_not_the_scores_are_unexplained():
    found = routing(recorder_for(small_model("olmoe")).record(prompt_of(IDS)), 1)
    assert unexplained(found) <= 1e-6
    assert unexplained(replace(found, weights=found.weights * 7)) <= 1e-6
    assert unexplained(replace(found, weights=found.weights.flip(0))) > 0.01
