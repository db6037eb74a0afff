"""Published faults of other tools: their number, the right one by hooks, and llmscope's.

docs/faults.md tells of them. Nothing of llmscope is in the two references; then llmscope is given
the wrong structure, which it refuses.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import llmscope
from llmscope.models.anatomy import find
from llmscope.models.sampler import Sampler, left
from llmscope.record.derive.verify import pattern_verdict, verify
from tests.all_families import small_model
from tests.record.conftest import recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]
RIGHT, CLEAR = 1e-4, 0.1


def apart(number, right):
    """The largest error, as a share of the largest magnitude of the right one."""
    assert number.shape == right.shape
    return float((number - right).abs().max() / right.abs().max())


def outputs(model, *names):
    """What modules of a plain model give for IDS. [token, width] each"""
    caught, hooks = {}, []
    for name in names:

        def keep(_, __, output, name=name):
            caught[name] = (output[0] if isinstance(output, tuple) else output)[0]

        hooks.append(model.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        model(torch.tensor([IDS]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return [caught[name] for name in names]


def cache_of(model):
    return llmscope.wrap(model).record(IDS).cache()


def verdicts_with(model, layer, **changes):
    """The verdicts of a model of which one layer is believed to be otherwise."""
    layers = list(find(model).layers)
    layers[layer] = replace(layers[layer], **changes)
    return verify(recorder_for(model, layers=tuple(layers)))


# family -> module whose output is added, module that was read instead, the factor's name.
ADDED = {
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm", None),
    "olmo3": ("post_attention_layernorm", "post_feedforward_layernorm", None),
    "granite": ("self_attn", "mlp", "residual_multiplier"),
}


@pytest.mark.parametrize("family", ADDED)
def test_what_a_layer_adds_is_taken_behind_its_norm_or_factor(family):
    """TransformerLens #1648."""
    attention, mlp, factor = ADDED[family]
    model = small_model(family, **({factor: 0.22} if factor else {}))
    layer = "model.layers.1"
    names = (f"{layer}.{attention}", f"{layer}.{mlp}", f"{layer}.self_attn", f"{layer}.mlp")
    *right, wrong_attention, wrong_mlp = outputs(model, *names)
    scale = getattr(model.config, factor) if factor else 1.0
    before, after = outputs(model, "model.layers.0", layer)
    assert apart(before + sum(right) * scale, after) < RIGHT
    assert apart(before + wrong_attention + wrong_mlp, after) > CLEAR
    cache = cache_of(model)
    for name, output, wrong in zip(
        ("attn_out", "mlp_out"), right, (wrong_attention, wrong_mlp), strict=True
    ):
        number = cache[f"layers.1.{name}"]
        assert apart(number, output * scale) < RIGHT
        assert apart(number, wrong) > CLEAR
    parts = find(model).layers[1]
    believed = {"attention_write": parts.attention, "mlp_write": parts.module.mlp, "scales": {}}
    verdict = verdicts_with(model, 1, **believed)("writes", 1)
    assert verdict.status == "refused"
    assert verdict.discrepancy > CLEAR


def test_a_factor_is_seen_though_a_cosine_does_not_see_it():
    """interp-engine's table: cosine 1.000 where the relative error is 3.55."""
    model = small_model("granite", residual_multiplier=0.22)
    (wrong,) = outputs(model, "model.layers.1.self_attn")
    number = cache_of(model)["layers.1.attn_out"]
    cosine = torch.nn.functional.cosine_similarity(wrong.flatten(), number.flatten(), dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)
    assert apart(wrong, number) == pytest.approx(1 / 0.22 - 1, rel=1e-4)
    verdicts = verdicts_with(model, 1, scales={})
    assert verdicts("writes", 1).status == "refused"


def test_a_residual_inside_the_sublayer_is_not_part_of_what_it_adds():
    """TransformerLens #1639, nnterp #51."""
    model = small_model("bloom")
    layer = "transformer.h.1"
    names = (
        *("transformer.h.0", f"{layer}.self_attention", f"{layer}.mlp"),
        *(f"{layer}.self_attention.dense", f"{layer}.mlp.dense_4h_to_h", layer),
    )
    before, wrong_attention, wrong_mlp, attention, mlp, after = outputs(model, *names)
    assert apart(before + attention, wrong_attention) < RIGHT
    assert apart(before + attention + mlp, after) < RIGHT
    cache = cache_of(model)
    assert apart(cache["layers.1.attn_out"], attention) < RIGHT
    assert apart(cache["layers.1.mlp_out"], mlp) < RIGHT
    assert apart(cache["layers.1.attn_out"], wrong_attention) > CLEAR
    assert apart(cache["layers.1.mlp_out"], wrong_mlp) > CLEAR
    parts = find(model).layers[1]
    for believed in ({"attention_write": parts.attention}, {"mlp_write": parts.module.mlp}):
        verdict = verdicts_with(model, 1, **believed)("writes", 1)
        assert verdict.status == "refused"
        assert verdict.discrepancy > CLEAR


def test_a_dense_layer_among_experts_has_neurons():
    """TransformerLens #1645: they were read as what goes into the MLP, and what comes out."""
    model = small_model("deepseek_v2")
    mlp = "model.layers.0.mlp"
    gate, up, wrong = outputs(model, f"{mlp}.gate_proj", f"{mlp}.up_proj", mlp)
    cache = cache_of(model)
    neurons = cache["layers.0.mlp_act"]
    assert apart(neurons, torch.nn.functional.silu(gate) * up) < RIGHT
    assert neurons.shape[-1] == model.config.intermediate_size != wrong.shape[-1]
    experts = model.config.n_routed_experts + model.config.n_shared_experts
    for layer in (1, 2):  # the others' are of their experts, one after another
        count = cache[f"layers.{layer}.mlp_act"].shape[-1]
        assert count == experts * model.config.moe_intermediate_size
    whole = find(model).layers[0].module.mlp
    verdicts = verdicts_with(model, 0, experts=whole)
    assert verdicts("activations", 0).status == verdicts("experts", 0).status == "refused"
    verdict = verdicts_with(model, 0, down=whole)("activations", 0)  # its identity alone holds
    assert verdict.status == "refused"
    assert "reads the MLP's own input" in verdict.reason
    assert verdicts_with(model, 0, down=whole.up_proj)("activations", 0).status == "refused"


def test_layers_of_different_widths_are_each_of_their_own_width():
    """TransformerLens #1646 and #1647, vllm #51744."""
    model = small_model("gemma4_text", use_double_wide_mlp=True)
    with pytest.raises(RuntimeError, match="per-layer"):
        _ = model.config.head_dim
    cache = cache_of(model)
    widths = [cache[f"layers.{layer}.z"].shape[-1] for layer in range(3)]
    assert widths == [16, 32, 32]
    assert [cache[f"layers.{layer}.mlp_act"].shape[-1] for layer in range(3)] == [80, 80, 160]
    for layer in range(3):
        here = f"model.layers.{layer}"
        names = ("self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj")
        projected, gate, up = outputs(model, *(f"{here}.{name}" for name in names))
        heads = cache[f"layers.{layer}.z"]
        weight = model.get_submodule(f"{here}.self_attn.o_proj").weight.detach()
        assert apart(heads.flatten(1) @ weight.T, projected) < RIGHT
        right = torch.nn.functional.gelu(gate, approximate="tanh") * up
        assert apart(cache[f"layers.{layer}.mlp_act"], right) < RIGHT
    columns = cache["layers.1.z"].flatten(1)
    assert torch.equal(columns[:, 32:64], cache["layers.1.z"][:, 1])
    assert apart(columns[:, 16:32], cache["layers.1.z"][:, 1, :16]) > CLEAR  # one width for all
    verdict = verify(recorder_for(model, heads=8))("patterns", 1)
    assert verdict.status == "refused"
    assert "4 heads" in verdict.reason


def test_keys_and_values_are_those_of_the_checkpoint(tmp_path):
    """TransformerLens #1620: zeros, where there are as many key heads as heads."""
    model, wrong = (small_model("olmo3", num_key_value_heads=4) for _ in range(2))
    for layer in wrong.model.layers:
        for name in ("k_proj", "v_proj"):
            torch.nn.init.zeros_(layer.self_attn.get_submodule(name).weight)
    name = "model.layers.1.post_attention_layernorm"
    (right,), (zeroed,) = outputs(model, name), outputs(wrong, name)
    assert float(zeroed.abs().max()) == 0.0
    number = cache_of(model)["layers.1.attn_out"]
    assert apart(number, right) < RIGHT
    assert apart(zeroed, number) > CLEAR
    for lost in ("k_proj", "v_proj"):
        weights = {name: value for name, value in model.state_dict().items() if lost not in name}
        model.save_pretrained(tmp_path / lost, state_dict=weights)
        with pytest.raises(llmscope.Error, match=rf"lacks 3 .*{lost}"):
            llmscope.load(tmp_path / lost)


def test_softcaps_of_attention_and_of_logits_are_applied():
    """SGLang #33915: attention ran without its cap."""
    changes = {"query_pre_attn_scalar": 1, "attn_logit_softcapping": 2.0}
    model = small_model("gemma2", **changes)
    scope = llmscope.wrap(model)
    recording = scope.record(IDS)
    number = recording.cache()["layers.1.pattern"]

    def plain(**lost):
        with torch.no_grad():
            ids = torch.tensor([IDS])
            return small_model("gemma2", **{**changes, **lost})(ids, output_attentions=True)

    right, uncapped = plain(), plain(attn_logit_softcapping=None)
    assert apart(number, right.attentions[1][0]) < RIGHT
    assert apart(number, uncapped.attentions[1][0]) > CLEAR
    assert pattern_verdict(recording, 1).status == "verified"
    settings = tuple(replace(layer, softcap=None) for layer in recording.settings)
    believed = pattern_verdict(replace(recording, settings=settings), 1)
    assert believed.status == "refused"
    assert believed.discrepancy > 1e-3

    probability = float(scope.look("next-token").values[0])
    of_all = right.logits[0, -1].softmax(-1)
    assert probability == pytest.approx(float(of_all.max()), rel=RIGHT)
    lost = plain(final_logit_softcapping=None).logits[0, -1]
    assert int(lost.argmax()) == int(of_all.argmax())
    assert float(lost.softmax(-1).max()) > 1.1 * probability
    readout = replace(find(model).readout, softcap=None, softcaps=())
    assert verify(recorder_for(model, readout=readout))("readout").status == "refused"


@pytest.mark.parametrize("cut", [{"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}], ids=str)
def test_probabilities_of_all_tokens_and_of_the_kept_are_two(cut):
    """trl #6789: they differ by log S, and their ratio is no change of the model."""
    model = small_model("llama")
    scope = llmscope.wrap(model)
    scope.record(IDS)
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    drawn = left(logits[-1], Sampler(temperature=1.0, **cut))
    of_all = logits.double().log_softmax(-1)
    token, kept = int(drawn.argmax()), drawn > 0
    share = float(of_all[-1].exp()[kept].sum())
    assert 1 < int(kept.sum()) < len(kept)
    assert share < 0.95
    assert float(of_all[-1, token]) == pytest.approx(
        float(drawn[token].log()) + torch.tensor(share).log().item(), rel=RIGHT
    )
    names = {"sample_top_k": cut["top_k"]} if "top_k" in cut else cut
    figure = scope.look("next-token", temperature=1.0, **names)
    assert figure.values[0] == pytest.approx(float(of_all[-1].exp().max()), rel=RIGHT)
    bits = scope.look("tokens").values[-1]
    assert bits == pytest.approx(float(-of_all[-2, IDS[-1]] / torch.tensor(2.0).log()), rel=RIGHT)
