"""Layers whose norms stand in the stream, against plain transformers by hand."""

from dataclasses import replace

import pytest
import torch

from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive.post_norms import IN_THE_STREAM, post_norms
from llmscope.record.derive.verify import verify
from llmscope.scope.scope import Scope
from tests.all_families import small_model
from tests.families import epsilon_of
from tests.record.conftest import recorder_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]

# family -> layers; attention, the norm after it, what the MLP gives, and the norm after that.
BART = (
    "model.decoder.layers",
    ("self_attn", "self_attn_layer_norm", "fc2", "final_layer_norm"),
)
PLACES = {
    "bart": BART,
    "marian": BART,
    "blenderbot-small": BART,
    "openai-gpt": ("transformer.h", ("attn", "ln_1", "mlp", "ln_2")),
}


def scope_of(model):
    return Scope(LoadedModel("", "", model, None, find(model), model.device, model.dtype))


def near(found, own):
    assert found.shape == own.shape
    assert float((found - own).abs().max()) <= 1e-5 * float(own.abs().max())


def by_hand(model, family):
    """The last logits, and of each layer: its input, attention, norm, MLP, and norm. [row, width]

    The norms as (input, output).
    """
    stack, names = PLACES[family]
    found, hooks = [], []
    for layer in model.get_submodule(stack):
        own = {}
        found.append(own)

        def enter(_, args, own=own):
            own["stream"] = args[0][0].clone()

        hooks.append(layer.register_forward_pre_hook(enter))
        for name in names:

            def keep(_, args, output, own=own, name=name):
                first = output[0] if isinstance(output, tuple | list) else output
                own[name] = args[0].reshape(len(IDS), -1), first.reshape(len(IDS), -1)

            hooks.append(layer.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return logits, found


def layer_norm(norm, before):
    """A LayerNorm's linear map at one row, as a matrix: x -> scale · gain ∘ (x - mean). float64"""
    width = len(before)
    centre = torch.eye(width).double() - 1 / width
    std = (before.double().var(correction=0) + epsilon_of(norm)).sqrt()
    return torch.diag(norm.weight.detach().double()) @ centre / std


@pytest.mark.parametrize("family", PLACES)
def test_writes_go_through_the_norms_to_the_next_stream(family):
    scope = scope_of(small_model(family))
    assert scope.verdicts("writes").status == "verified"
    recording = scope.record(IDS, fresh=True)
    plain = small_model(family)
    _, found = by_hand(plain, family)
    attention, first, mlp, second = PLACES[family][1]
    layers = plain.get_submodule(PLACES[family][0])
    for index, own in enumerate(found):
        near(recording.rows("stream", index), own["stream"])
        near(recording.rows("attention_write", index), own[attention][1])
        near(recording.rows("mlp_write", index), own[mlp][1])
        middle = layers[index].get_submodule(first)(own["stream"] + own[attention][1])
        near(middle, own[first][1])
        after = layers[index].get_submodule(second)(middle + own[mlp][1])
        near(recording.rows("stream", index + 1), after)


@pytest.mark.parametrize("family", PLACES)
def test_a_logit_is_the_sum_of_its_parts_through_the_norms(family):
    plain = small_model(family)
    logits, found = by_hand(plain, family)
    attention, first, mlp, second = PLACES[family][1]
    layers = plain.get_submodule(PLACES[family][0])
    direction = plain.get_output_embeddings().weight[7].detach().double()
    expected = {}
    for index in (2, 1, 0):
        own = found[index]
        direction = (
            layer_norm(layers[index].get_submodule(second), own[second][0][-1]).T @ direction
        )
        expected["MLP", index] = float(direction @ own[mlp][1][-1].double())
        direction = layer_norm(layers[index].get_submodule(first), own[first][0][-1]).T @ direction
        expected["attention", index] = float(direction @ own[attention][1][-1].double())
    expected["embedding"] = float(direction @ found[0]["stream"][-1].double())
    scope = scope_of(small_model(family))
    scope.record(IDS)
    figure = scope.look("attribution", mode="layers", target=7)
    assert figure.verdict.status == "verified"
    assert figure.extra["logit"] == pytest.approx(float(logits[7]), rel=1e-5)
    assert figure.extra["embedding"] == pytest.approx(expected["embedding"], rel=1e-4, abs=1e-5)
    columns = figure.axes[1].labels
    for (part, layer), value in [
        (key, value) for key, value in expected.items() if key != "embedding"
    ]:
        cell = figure.values[layer, columns.index(part)]
        assert cell == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_norms_before_each_part_is_added_are_found_and_carried_back():
    """BLOOM can add each part to the normed stream: norm(norm(stream) + attention) + MLP."""
    normed = {"apply_residual_connection_post_layernorm": True}
    plain, scope = small_model("bloom", **normed), scope_of(small_model("bloom", **normed))
    assert scope.verdicts("writes").status == "verified"
    recording = scope.record(IDS, fresh=True)
    seen, hooks = [], []
    for layer in plain.transformer.h:
        own = {}
        seen.append(own)
        for name, module in (
            ("attention", layer.self_attention.dense),
            ("first", layer.input_layernorm),
            ("second", layer.post_attention_layernorm),
            ("MLP", layer.mlp.dense_4h_to_h),
        ):

            def keep(_, args, output, own=own, name=name):
                own[name] = args[0][0], output[0]

            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    final = recording.rows("stream", 3)[-1]
    direction = plain.lm_head.weight[7].detach().double()
    direction = layer_norm(plain.transformer.ln_f, final).T @ direction
    figure = scope.look("attribution", mode="layers", target=7)
    assert figure.verdict.status == "verified"
    assert figure.extra["logit"] == pytest.approx(float(logits[7]), rel=1e-5)
    columns = figure.axes[1].labels
    for index in (2, 1, 0):
        own, layer = seen[index], plain.transformer.h[index]
        near(recording.rows("stream", index), own["first"][0])
        near(recording.rows("attention_write", index), own["attention"][1])
        near(recording.rows("mlp_write", index), own["MLP"][1])
        near(recording.rows("stream", index + 1), own["second"][1] + own["MLP"][1])
        near(own["first"][1] + own["attention"][1], own["second"][0])
        cell = figure.values[index, columns.index("MLP")]
        part = float(direction @ own["MLP"][1][-1].double())
        assert cell == pytest.approx(part, rel=1e-4, abs=1e-5)
        second = layer.post_attention_layernorm
        direction = layer_norm(second, own["second"][0][-1]).T @ direction
        cell = figure.values[index, columns.index("attention")]
        part = float(direction @ own["attention"][1][-1].double())
        assert cell == pytest.approx(part, rel=1e-4, abs=1e-5)
        direction = layer_norm(layer.input_layernorm, own["first"][0][-1]).T @ direction
    embedding = float(direction @ seen[0]["first"][0][-1].double())
    assert figure.extra["embedding"] == pytest.approx(embedding, rel=1e-4, abs=1e-5)
    assert scope.look("attribution", mode="heads", target=7).verdict.status == "verified"
    assert scope.look("attribution", mode="neurons", target=7, layer=1).verdict.status == "verified"
    edited = scope.record(IDS, edits=["zero head 1.2", "scale mlp 2 0.5"])

    def without(_, args):
        joined = args[0].clone()
        joined[..., 24:36] = 0
        return joined

    plain.transformer.h[1].self_attention.dense.register_forward_pre_hook(without)
    half = plain.transformer.h[2].mlp.dense_4h_to_h
    half.register_forward_hook(lambda _, args, output: output * 0.5)
    with torch.no_grad():
        near(edited.logits, plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1])


@pytest.mark.parametrize("family", ["bart", "openai-gpt"])
def test_heads_and_neurons_add_up_to_their_parts(family):
    scope = scope_of(small_model(family))
    scope.record(IDS)
    heads = scope.look("attribution", mode="heads", target=7)
    assert heads.verdict.status == "verified"
    neurons = scope.look("attribution", mode="neurons", target=7, layer=1)
    assert neurons.verdict.status == "verified"


def test_edits_of_the_stream_have_their_part():
    scope = scope_of(small_model("bart"))
    scope.record(IDS, edits=["steer 1 token id:9 2.5"])
    figure = scope.look("attribution", mode="layers", target=7)
    assert figure.verdict.status == "verified"


def test_what_stands_on_a_plain_sum_is_refused_with_the_reason():
    scope = scope_of(small_model("bart"))
    scope.record(IDS)
    assert scope.look("neurons", layer=1).verdict.reason == IN_THE_STREAM
    steps = scope.look("walkthrough", layer=1)
    assert IN_THE_STREAM in str(steps.extra)


@pytest.mark.parametrize("wrong", ["swapped", "doubled"])
def test_a_wrong_belief_is_refused(wrong):
    model = small_model("bart")
    layers = list(find(model).layers)
    if wrong == "doubled":
        layers[1] = replace(layers[1], scales={"attention_write": 2.0, "mlp_write": 2.0})
    else:
        layers[1] = replace(layers[1], mlp_write=layers[0].mlp_write)
    verdicts = verify(recorder_for(model, layers=tuple(layers)))
    assert verdicts("writes", 1).status == "refused"
    assert verdicts("writes", 2).status == "verified"


def test_norms_that_stand_elsewhere_are_not_found():
    recorder = recorder_for(small_model("llama"))
    verify(recorder)
    assert not any(map(post_norms, recorder.model.anatomy.layers))
    model = small_model("bart")
    model.model.decoder.layers[1].register_forward_hook(lambda _, __, output: output * 1.001)
    recorder = recorder_for(model)
    verdicts = verify(recorder)
    assert post_norms(recorder.model.anatomy.layers[1]) is None
    assert verdicts("writes", 1).status == "refused"


@torch.no_grad()
def gemma4_by_hand(model):
    """Streams, then of each layer what attention, MLP and per-layer embedding add. [row, width]"""
    streams, writes = [], []
    names = [f"post_{name}" for name in ("attention_layernorm", "feedforward_layernorm")]
    for layer in model.model.layers:
        written = {}
        writes.append(written)
        layer.register_forward_pre_hook(lambda _, args: streams.append(args[0][0].clone()))
        for name in (*names, "post_per_layer_input_norm"):

            def keep(_, args, output, written=written, name=name):
                written[name] = output[0].clone()

            layer.get_submodule(name).register_forward_hook(keep)
    model.model.norm.register_forward_pre_hook(lambda _, args: streams.append(args[0][0].clone()))
    logits = model(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    return logits, streams, [list(written.values()) for written in writes]


@pytest.mark.parametrize("changes", [{}, {"enable_moe_block": True}])
def test_a_layer_that_scales_its_output_is_told_with_all_that_it_writes(changes):
    changes = {**changes, "final_logit_softcapping": None}
    scope = scope_of(small_model("gemma4_text", **changes))
    assert scope.verdicts("writes").status == "verified"
    recording = scope.record(IDS)
    plain = small_model("gemma4_text", **changes)
    logits, streams, writes = gemma4_by_hand(plain)
    names = ("attention_write", "mlp_write", "embedded_write")
    factors = [float(layer.layer_scalar) for layer in plain.model.layers]
    for index, (own, factor) in enumerate(zip(writes, factors, strict=True)):
        assert abs(factor - 1) > 0.01
        near(recording.rows("stream", index), streams[index])
        near((streams[index] + sum(own)) * factor, streams[index + 1])
        for name, one in zip(names, own, strict=True):
            near(recording.rows(name, index), one)
    figure = scope.look("attribution", mode="layers", target=7)
    assert figure.verdict.status == "verified"
    assert figure.axes[1].labels == ("attention", "MLP", "embedded")
    final, norm = streams[-1][-1].double(), plain.model.norm
    read = plain.lm_head.weight[7].double() * norm.weight.double()
    read = read * (final.square().mean() + epsilon_of(norm)).rsqrt()
    assert float(read @ final) == pytest.approx(float(logits[7]), rel=1e-4)
    for index, own in enumerate(writes):
        left = torch.tensor(factors[index:]).double().prod()
        for column, one in enumerate(own):
            part = float(read @ one[-1].double() * left)
            assert figure.values[index, column] == pytest.approx(part, abs=2e-5)


def test_experts_beside_an_mlp_are_seen_though_their_choice_is_not_checked():
    scope = scope_of(small_model("gemma4_text", enable_moe_block=True))
    assert "mixture of experts" in scope.verdicts("activations", 0).reason
    assert "its router's weights do not tell its scores" in scope.verdicts("experts", 0).reason


def test_a_factor_that_is_no_number_of_the_layer_is_not_believed_in():
    model = small_model("gemma4_text")
    model.model.layers[1].register_forward_hook(lambda _, __, output: output * 1.001)
    recorder = recorder_for(model)
    verdicts = verify(recorder)
    assert post_norms(recorder.model.anatomy.layers[1]) is None
    assert verdicts("writes", 1).status == "refused"
    assert verdicts("writes", 2).status == "verified"


def test_an_edit_of_a_whole_layer_is_of_its_embedding_as_well():
    scope = scope_of(small_model("gemma4_text"))
    plain = small_model("gemma4_text")
    factor = plain.model.layers[1].layer_scalar
    plain.model.layers[1].register_forward_hook(lambda _, args, __: args[0] * factor)
    with torch.no_grad():
        own = plain(input_ids=torch.tensor([IDS]), use_cache=False).logits[0, -1]
    scope.record(IDS, edits=["zero layer 1"])
    figure = scope.look("next-token", top_k=len(own))
    found = torch.tensor(figure.values)
    near(found, torch.softmax(own.double(), -1)[torch.tensor(figure.extra["ids"].copy())])
