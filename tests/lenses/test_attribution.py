"""Attribution: every part against plain transformers, its norms held still by hand."""

import math

import numpy as np
import pytest
import torch

import llmscope
from llmscope.record.analysis import attribution
from tests.all_families import small_model as any_model
from tests.families import FAMILIES, REFUSED, small_model
from tests.lenses.test_experts import IDS, scope_on

TARGET, VERSUS, POSITION = 11, 40, 5
SUMMED = sorted(family for family in FAMILIES if "writes" not in REFUSED.get(family, {}))

# By family: projection of the heads, final norm, a norm after the projection, how many heads
# share one key head.
LLAMA = ("model.layers.{}.self_attn.o_proj", "model.norm", None)
PLACES = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "granite": LLAMA,
    "cohere": LLAMA,
    "gemma2": (*LLAMA[:2], "model.layers.{}.post_attention_layernorm"),
    "gpt2": ("transformer.h.{}.attn.c_proj", "transformer.ln_f", None),
    "gpt_neox": ("gpt_neox.layers.{}.attention.dense", "gpt_neox.final_layer_norm", None),
    "falcon_h1": (LLAMA[0], "model.final_layernorm", None),
}


def caught(model, paths):
    """The first input of each module at the position, in a plain run. path -> [width]"""
    found = {}

    def keeper(path):
        return lambda _, args: found.update({path: args[0][0, POSITION].clone()})

    hooks = [model.get_submodule(p).register_forward_pre_hook(keeper(p)) for p in paths]
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return found


def still(norm, at, rows, family):
    """The norm of rows with its scale held at that of `at`, from its formula."""
    at, rows = at.double(), rows.double()
    weight = norm.weight.detach().double() + (1 if family == "gemma2" else 0)
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    if isinstance(norm, torch.nn.LayerNorm) or family == "cohere":
        at, rows = at - at.mean(), rows - rows.mean(-1, keepdim=True)
    out = weight * rows / (at.square().mean() + eps).sqrt()
    bias = getattr(norm, "bias", None)
    return out if bias is None else out + bias.detach().double()


def logit_without(model, family, stream, write):
    """The model's logits after its last stream less a write, the final norm held still."""
    norm = model.get_submodule(PLACES[family][1])
    normed = still(norm, stream, stream - write, family).float()

    def replaced(_, args, output):
        output = output.clone()
        output[0, POSITION] = normed
        return output

    hook = norm.register_forward_hook(replaced)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, POSITION]
    hook.remove()
    return logits[TARGET] - logits[VERSUS]


@pytest.mark.few(4)
@pytest.mark.parametrize("family", PLACES)
def test_a_heads_part_is_what_the_logit_loses_without_its_write(family):
    figure = scope_on(family).look(
        "attribution", mode="heads", target=TARGET, versus=VERSUS, position=POSITION
    )
    assert figure.verdict.status == "verified"
    assert [axis.name for axis in figure.axes] == ["layer", "head"]
    model = small_model(family)
    model.config.final_logit_softcapping = None  # the logit before it is what is taken apart
    out, final, after = PLACES[family]
    paths = [out.format(layer) for layer in range(3)]
    after = [] if after is None else [after.format(layer) for layer in range(3)]
    inputs = caught(model, [*paths, *after, final])
    stream = inputs[final].double()
    whole = logit_without(model, family, stream, torch.zeros_like(stream))
    scale = float(figure.extra["logit"])
    assert float(whole) == pytest.approx(scale, rel=1e-4)
    for layer, path in enumerate(paths):
        weight = model.get_submodule(path).weight.detach().double()
        weight = weight if family == "gpt2" else weight.T  # [input, width]
        joined = inputs[path].double()
        size = len(joined) // 4
        for head in range(4):
            part = slice(head * size, (head + 1) * size)
            write = joined[part] @ weight[part]
            if after:
                norm = model.get_submodule(after[layer])
                write = still(norm, inputs[after[layer]], write, family)
            factors = ("residual_multiplier", "attention_out_multiplier")
            for factor in factors:
                write = write * (getattr(model.config, factor, None) or 1.0)
            lost = float(whole - logit_without(model, family, stream, write))
            assert figure.values[layer, head] == pytest.approx(lost, abs=2e-5), (layer, head)
    assert np.abs(figure.values).max() > 0.01


@pytest.mark.parametrize("family", SUMMED)
@pytest.mark.few(8)
def test_the_parts_sum_to_the_models_own_logit(family):
    with torch.no_grad():
        logits = small_model(family)(input_ids=torch.tensor([IDS]), use_cache=False).logits
    logits = logits[0, POSITION].double()
    target = int(logits.abs().argmax())
    own = float(logits[target])
    scope = scope_on(family)
    figure = scope.look("attribution", target=target, position=POSITION, top_k=1000)
    cap = figure.extra["softcap"]
    assert (cap is not None) == (family in ("gemma2", "recurrent_gemma"))
    own = own if cap is None else math.atanh(own / cap) * cap
    assert figure.verdict.status == "verified"
    assert figure.values.astype(np.float64).sum() == pytest.approx(own, rel=1e-4)
    assert figure.extra["logit"] == pytest.approx(own, rel=1e-4)
    assert abs(figure.extra["unexplained"]) <= 1e-4 * abs(own)
    assert len(figure.values) == figure.extra["parts"]


def test_two_tokens_are_held_against_each_other():
    scope = scope_on("gpt2")
    looks = [
        scope.look("attribution", mode="heads", **tokens)
        for tokens in ({"target": 3}, {"target": 9}, {"target": 3, "versus": 9})
    ]
    one, other, both = looks
    assert both.values == pytest.approx(one.values - other.values, abs=1e-6)
    assert both.extra["bias"] == pytest.approx(one.extra["bias"] - other.extra["bias"], abs=1e-6)
    assert both.title == "Attribution · logit of ‹3› − ‹9› · by head"


def test_the_target_is_the_likeliest_token_unless_one_is_asked_for():
    scope = scope_on("llama")
    best = scope.look("next-token", position=4).extra["ids"][0]
    assert scope.look("attribution", position=4).extra["target_id"] == best


def test_parts_are_ordered_and_the_rest_is_one_more():
    scope = scope_on("gpt2")
    whole = scope.look("attribution", top_k=1000)
    few = scope.look("attribution", top_k=4)
    assert (np.diff(np.abs(whole.values)) <= 0).all()
    assert few.axes[0].labels[:4] == whole.axes[0].labels[:4]
    assert few.axes[0].labels[4] == f"the rest ({len(whole.values) - 4})"
    assert few.values[4] == pytest.approx(whole.values[4:].sum(), abs=1e-5)
    heads = scope.look("attribution", mode="heads")
    for name, kind, layer, head, value in zip(
        whole.axes[0].labels,
        *(whole.extra[key] for key in ("kinds", "layers", "heads")),
        whole.values,
        strict=True,
    ):
        if kind == "head":
            assert name == f"L{layer} head {head}"
            assert value == heads.values[layer, head]


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "falcon_h1", "mamba"])
def test_a_layers_writes_are_read_whole(family):
    scope = scope_on(family)
    figure = scope.look("attribution", mode="layers")
    extra = figure.extra
    total = np.nansum(figure.values.astype(np.float64)) + extra["embedding"] + extra["bias"]
    assert total == pytest.approx(extra["logit"], rel=1e-4)
    expected = {"falcon_h1": ("attention", "mixer", "MLP"), "mamba": ("mixer",)}
    assert figure.axes[1].labels == expected.get(family, ("attention", "MLP"))
    if family == "gpt2":
        by_head = scope.look("attribution", top_k=1000)
        layers, kinds = np.array(by_head.extra["layers"]), np.array(by_head.extra["kinds"])
        for layer in range(3):
            of_attention = (layers == layer) & np.isin(kinds, ["head", "attention bias"])
            assert of_attention.sum() == 5
            assert by_head.values[of_attention].sum() == pytest.approx(
                figure.values[layer, 0], abs=1e-5
            )


def test_a_neurons_part_is_its_activation_through_its_weights():
    figure = scope_on("llama").look(
        "attribution",
        mode="neurons",
        layer=1,
        target=TARGET,
        versus=VERSUS,
        position=POSITION,
        top_k=1000,
    )
    model = small_model("llama")
    down, final = "model.layers.1.mlp.down_proj", "model.norm"
    inputs = caught(model, [down, final])
    weight = model.get_submodule(down).weight.detach().double()  # [width, neuron]
    norm = model.get_submodule(final)
    writes = (weight * inputs[down].double()).T  # [neuron, width]
    rows = model.lm_head.weight.detach().double()
    parts = still(norm, inputs[final], writes, "llama") @ (rows[TARGET] - rows[VERSUS])
    assert figure.values == pytest.approx(parts[list(figure.extra["neurons"])].numpy(), abs=1e-6)
    assert figure.extra["mlp"] == pytest.approx(float(parts.sum()), rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "olmo2", "phi3", "opt"])
def test_neurons_and_their_bias_sum_to_what_the_mlp_adds(family):
    scope = scope_on(family)
    figure = scope.look("attribution", mode="neurons", layer=1, top_k=7)
    layers = scope.look("attribution", mode="layers")
    total = figure.values.astype(np.float64).sum() + figure.extra["mlp_bias"]
    assert figure.axes[0].labels[7].startswith("the rest (")
    assert total == pytest.approx(float(layers.values[1, -1]), abs=1e-5)


@pytest.mark.parametrize(
    ("family", "mode", "reason"),
    [
        ("llama", "experts", "no experts"),
        ("mamba", "neurons", "no MLP"),
        ("mamba", "heads", "the model has no attention"),
        ("rwkv", "layers", "unexplained"),  # what the last layer writes is as it should be
    ],
)
def test_what_cannot_be_told_is_refused(family, mode, reason):
    figure = scope_on(family).look("attribution", mode=mode)
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason


def test_a_write_that_is_off_by_a_hundredth_is_refused():
    scope = scope_on("llama")
    assert scope.look("attribution").verdict.status == "verified"
    scope.latest.parts[0][0].layers[1].mlp_write[-1] *= 1.01
    figure = scope.look("attribution")
    assert figure.verdict.status == "refused"
    assert "unexplained" in figure.verdict.reason


def test_attention_whose_heads_cannot_be_told_is_one_part(monkeypatch):
    real = attribution.head_outputs

    def wrong(recording, layer, rows):
        return real(recording, layer, rows) * (1.01 if layer == 1 else 1.0)

    monkeypatch.setattr(attribution, "head_outputs", wrong)
    scope = scope_on("llama")
    figure = scope.look("attribution", top_k=1000)
    assert figure.verdict.status == "partial"
    assert figure.verdict.reason.startswith("attention of layer 1 is one part: its heads do not")
    names = figure.axes[0].labels
    assert "L1 attention" in names
    assert "L1 head 0" not in names
    assert "L2 head 0" in names
    assert figure.values.sum() == pytest.approx(figure.extra["logit"], rel=1e-4)
    heads = scope.look("attribution", mode="heads")
    assert np.isnan(heads.values[1]).all()
    assert not np.isnan(heads.values[[0, 2]]).any()


@pytest.mark.parametrize("wrong", [{"target": 96}, {"target": 3, "versus": 96}])
def test_a_token_that_does_not_exist_raises(wrong):
    with pytest.raises(ValueError, match="token 96 is out of range"):
        scope_on("llama").look("attribution", **wrong)
    with pytest.raises(ValueError, match="against itself"):
        scope_on("llama").look("attribution", target=3, versus=3)


def test_half_precision_has_a_bound_of_its_own():
    from llmscope.models.anatomy import find
    from llmscope.models.loaded_model import LoadedModel
    from llmscope.scope.scope import Scope

    module = small_model("llama").to(torch.bfloat16)
    model = LoadedModel(
        "test", "test", module, None, find(module), torch.device("cpu"), torch.bfloat16
    )
    scope = Scope(model)
    scope.record(IDS)
    figure = scope.look("attribution", top_k=1000)
    assert figure.verdict.status == "verified"
    assert 0 < figure.verdict.discrepancy <= 8 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize(("family", "layer"), [("zamba", 1), ("zamba2", 1)])
def test_attention_that_writes_to_another_mixer_is_said_to(family, layer):
    """Its heads have scores and can be zeroed, and no write of their own to the stream."""
    scope = llmscope.wrap(any_model(family))
    recording = scope.record(IDS)
    reason = "this layer's attention feeds its state space, and adds nothing to the stream itself"
    assert scope.verdicts("writes", layer).reason == reason
    assert scope.look("attribution", mode="heads").verdict.reason.endswith(reason)
    mixed = recording.rows("mixer_write", layer)
    after = recording.rows("stream", layer + 1)
    assert torch.allclose(recording.rows("stream", layer) + mixed, after, atol=1e-5)
    assert scope.verdicts("heads", layer).status == "verified"
    assert scope.record(IDS, edits=[f"zero head {layer}.2"]).changes


def test_a_part_of_the_parts_is_listed_and_the_rest_holds_all_others():
    scope = scope_on("llama")
    scope.record(IDS)
    whole = scope.look("attribution", top_k=1000)
    figure = scope.look("attribution", layers=[1], top_k=1000)
    known = dict(zip(whole.axes[0].labels, whole.values.tolist(), strict=True))
    listed = {name for name in known if name.startswith("L1 ")}
    *names, rest = figure.axes[0].labels
    assert set(names) == listed
    assert rest == f"the rest ({len(known) - len(listed)})"
    assert figure.values[:-1] == pytest.approx([known[name] for name in names], abs=1e-6)
    assert figure.values.sum() == pytest.approx(whole.values.sum(), abs=1e-5)
    assert figure.extra["sum"] == whole.extra["sum"]
    assert figure.extra["caption"][-1] == "only layers 1"
    heads = scope.look("attribution", heads="0,2", top_k=1000)
    wanted = {name for name in known if name.endswith((" head 0", " head 2"))}
    assert set(heads.axes[0].labels[:-1]) == wanted


@pytest.mark.parametrize("mode", ["heads", "layers"])
def test_what_is_left_out_of_a_map_is_missing(mode):
    scope = scope_on("llama")
    scope.record(IDS)
    whole = scope.look("attribution", mode=mode).values
    options = {"layers": "1-2", **({"heads": [-1]} if mode == "heads" else {})}
    part = scope.look("attribution", mode=mode, **options).values
    chosen = np.zeros(whole.shape, dtype=bool)
    chosen[1:3, -1 if mode == "heads" else slice(None)] = True
    np.testing.assert_array_equal(part[chosen], whole[chosen])
    assert np.isnan(part[~chosen]).all()
    with pytest.raises(ValueError, match="heads: attribution reads heads in the modes parts"):
        scope.look("attribution", mode="layers", heads=[0])
    with pytest.raises(ValueError, match="layers: attribution reads layers in the modes parts"):
        scope.look("attribution", mode="neurons", layers=[0])
