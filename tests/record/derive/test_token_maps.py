"""Maps of layers without attention, beside recurrences in plain torch and float64."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from llmscope.errors import ScopeError
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record import call_maps
from llmscope.record.derive.token_maps import mixed_by_maps, token_map
from llmscope.record.mixer_calls import MixerCall, MixerCalls, join_calls
from llmscope.scope.scope import Scope
from tests.all_families import small_model
from tests.recurrences import Caught, caught_in

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 4, 77, 54]
BOUND = 1e-5
FAMILIES = (
    *("qwen3_next", "qwen3_5_text", "olmo_hybrid", "kimi_linear", "bamba", "nemotron_h", "zamba2"),
    *(
        "granitemoehybrid",
        "mamba2",
        "mamba",
        "falcon_mamba",
        "jamba",
        "zamba",
        "lfm2",
        "lfm3",
        "rwkv",
    ),
)


def scope_of(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Scope:
    model = small_model(family, **changes).to(dtype)
    return Scope(LoadedModel("", family, model, None, find(model), model.device, dtype))


def mapped_layers(scope: Scope) -> list[int]:
    layers = scope.loaded_model.anatomy.layers
    return [at for at, layer in enumerate(layers) if layer.mapped is not None]


def references(scope: Scope, plain: Any, ids: list[int]) -> dict[int, list[Caught]]:
    paths = {module: name for name, module in scope.model.named_modules()}
    layers = [paths[layer.module] for layer in scope.loaded_model.anatomy.layers]
    return caught_in(plain, [plain.get_submodule(path) for path in layers], ids)


def largest_error(scope: Scope, recording: Any, calls: dict[int, list[Caught]]) -> float:
    """The largest error of all maps, relative to the largest weight of a layer."""
    worst, rows = 0.0, range(len(recording))
    for layer in mapped_layers(scope):
        own = torch.cat([call.map() for call in calls[layer]])
        shown = torch.stack([token_map(recording, layer, at, rows) for at in range(len(own))])
        assert shown.shape == own.shape
        worst = max(worst, float((shown - own).abs().max() / own.abs().max()))
    return worst


@pytest.mark.few(5)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_map_is_that_of_a_recurrence_in_float64(family):
    scope, plain = scope_of(family), small_model(family)
    recording = scope.record(IDS)
    layers, calls = mapped_layers(scope), references(scope, plain, IDS)
    assert layers
    assert largest_error(scope, recording, calls) < BOUND
    for layer in layers:
        assert scope.verdicts("maps", layer).status == "verified"
        given = torch.cat([call.given() for call in calls[layer]], 1)  # [row, head, width]
        mixed = torch.cat(
            [
                call.after(torch.einsum("hts,shv->thv", call.map(), call.values))
                for call in calls[layer]
            ],
            1,
        )
        assert float((mixed - given).abs().max() / given.abs().max()) < BOUND


@pytest.mark.few(2)
@pytest.mark.parametrize("family", ["qwen3_next", "kimi_linear", "bamba", "mamba", "lfm2"])
def test_a_weight_is_what_a_change_of_a_value_changes(family):
    scope = scope_of(family)
    recording = scope.record(IDS)
    layer = mapped_layers(scope)[0]
    (call,) = references(scope, small_model(family), IDS)[layer]
    name = "value" if "value" in call.arguments else "hidden_states"
    module = scope.loaded_model.anatomy.layers[layer].recurrence.module
    function = getattr(sys.modules[type(module).__module__], call.name)
    for source in (0, 4, len(IDS) - 1):
        changed, by = call.arguments[name].clone(), 8.0
        rows_first = changed.dim() == 4
        (changed[:, source] if rows_first else changed[..., source]).add_(by)
        result = function(**{**call.arguments, name: changed, "z": None})
        before = function(**{**call.arguments, "z": None})
        after, before = (one[0] if isinstance(one, tuple) else one for one in (result, before))
        moved = (after - before).detach()[0].double() / by
        moved = moved[..., 0].T if rows_first else moved  # [head, query]
        shown = torch.stack(
            [
                token_map(recording, layer, head, range(len(IDS)))[:, source]
                for head in range(len(moved))
            ]
        )
        assert float((shown - moved).abs().max() / moved.abs().max()) < 3e-5


@pytest.mark.parametrize("family", ["qwen3_next", "bamba"])
def test_rows_of_a_long_prompt_are_those_of_its_whole_map(family):
    scope = scope_of(family, max_position_embeddings=256)
    ids = [(7 * at * at + 3) % 97 for at in range(150)]
    recording, layer = scope.record(ids), mapped_layers(scope)[0]
    explained, given = mixed_by_maps(recording, layer, range(3), range(150))
    assert float((explained - given).abs().max() / given.abs().max()) < BOUND
    whole = token_map(recording, layer, 1, range(150))
    some = token_map(recording, layer, 1, range(70, 90))
    assert some.shape == (20, 90)
    assert torch.allclose(some, whole[70:90, :90], atol=1e-9)
    assert not whole.triu(1).any()
    figure = scope.look("attention", layer=layer, head=1)
    assert figure.verdict.within == "at the last 64 of 150 tokens"
    span = scope.look("attention", layer=layer, head=1, span=(70, 90))
    assert np.allclose(span.values, figure.values[70:90], atol=1e-7, equal_nan=True)


def test_under_an_edit_the_map_is_that_of_the_edited_pass():
    scope, plain = scope_of("bamba"), small_model("bamba")
    base = scope.record(IDS)
    edited = scope.record(IDS, edits=["zero mlp 0"])
    mlp = plain.get_submodule("model.layers.0.feed_forward")
    mlp.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    assert largest_error(scope, edited, references(scope, plain, IDS)) < BOUND
    rows = range(len(IDS))
    assert torch.equal(token_map(base, 0, 0, rows), token_map(edited, 0, 0, rows))
    assert not torch.allclose(token_map(base, 2, 0, rows), token_map(edited, 2, 0, rows))
    figure = scope.look("attention", recording=edited, layer=2, head=0)
    assert figure.verdict.status == "verified"


@pytest.mark.parametrize(
    ("family", "steps"),
    [
        ("qwen3_next", 10),
        *(
            pytest.param(family, 200, marks=pytest.mark.slow)
            for family in ("mamba2", "qwen3_next", "lfm2")
        ),
    ],
)
def test_a_walk_of_edits_of_the_prompt_gives_the_maps_of_fresh_passes(family, steps):
    scope, fresh = scope_of(family), scope_of(family)
    generator, ids = np.random.default_rng(0), list(IDS)
    layer = mapped_layers(scope)[-1]
    for _ in range(steps):
        at = int(generator.integers(len(ids)))
        kind = generator.integers(3)
        if kind == 0 and len(ids) > 3:
            del ids[at]
        elif kind == 1:
            ids[at] = int(generator.integers(97))
        else:
            ids.insert(at, int(generator.integers(97)))
        scope.record(ids)
        shown = scope.look("attention", layer=layer, head=2)
        own = fresh.look("attention", recording=fresh.record(ids, fresh=True), layer=layer, head=2)
        assert shown.verdict.status == "verified"
        # The rows before an edit are of another pass, and what they left goes on from a state.
        largest = np.nanmax(np.abs(own.values))
        assert np.allclose(shown.values, own.values, 0, 1e-5 * largest, equal_nan=True)


@pytest.mark.few(2)
@pytest.mark.parametrize("family", ["qwen3_next", "kimi_linear", "bamba", "jamba", "lfm2"])
def test_maps_hold_in_bfloat16(family):
    scope = scope_of(family, torch.bfloat16)
    layer = mapped_layers(scope)[0]
    assert scope.verdicts("maps", layer).status == "verified"
    scope.record(IDS)
    figure = scope.look("attention", layer=layer, head=1)
    assert figure.verdict.status == "verified"
    assert "in bfloat16" in figure.verdict.within


def test_a_wrong_map_is_refused_by_how_far_it_is_off(monkeypatch):
    right = call_maps._by_products
    monkeypatch.setattr(call_maps, "_by_products", lambda *args, **kw: right(*args, **kw) * 1.01)
    scope = scope_of("qwen3_next")
    verdict = scope.verdicts("maps", 0)
    assert verdict.status == "refused"
    assert verdict.discrepancy == pytest.approx(0.01, rel=0.2)
    scope.record(IDS)
    figure = scope.look("attention", layer=0, head=0)
    assert figure.verdict.status == "refused"
    assert "differs from the model's own" in figure.verdict.reason


def test_a_map_that_is_wrong_in_the_prompt_alone_is_refused_there(monkeypatch):
    scope = scope_of("bamba")
    assert scope.verdicts("maps", 0).status == "verified"
    scope.record(IDS)
    right = call_maps._left
    monkeypatch.setattr(call_maps, "_left", lambda *args: right(*args) ** 1.1)
    figure = scope.look("attention", layer=0, head=0)
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason.startswith("at token ")


def test_what_has_no_map_says_why():
    scope = scope_of("nemotron_h")
    reasons = [scope.verdicts("maps", layer).reason for layer in range(3)]
    assert reasons == [
        "",
        "this layer has no attention: nothing mixes tokens in it",
        "this layer has attention, whose patterns are shown",
    ]
    assert scope_of("minimax").verdicts("maps", 1).reason == (
        "no function was found that mixes this layer's tokens by a known rule"
    )
    assert scope_of("falcon_h1").verdicts("maps", 0).reason == (
        "this layer has attention, whose patterns are shown; of the state space beside it there is "
        "no map"
    )


def test_the_functions_of_transformers_are_back_after_a_pass():
    from transformers.models.qwen3_next import modeling_qwen3_next as file

    function = file.torch_chunk_gated_delta_rule
    scope = scope_of("qwen3_next")
    scope.record(IDS)
    assert file.torch_chunk_gated_delta_rule is function
    with scope.loaded_model.taps.placed():
        assert file.torch_chunk_gated_delta_rule is not function
        with pytest.raises(IndexError):
            scope.model(input_ids=torch.tensor([[10**6]]))
    assert file.torch_chunk_gated_delta_rule is function


def test_a_model_with_attention_alone_has_no_listener():
    scope = scope_of("llama")
    recording = scope.record(IDS)
    assert scope.loaded_model.taps._recurrences == []
    assert {layer.mixing for layer in recording.parts[0][0].layers} == {None}
    assert "maps" not in scope.verdicts.capabilities


def test_a_pass_that_goes_on_from_a_state_has_no_map():
    rows = torch.ones(1, 2, 1, 3)
    arguments = {
        **dict.fromkeys(("query", "key", "value"), rows),
        **dict.fromkeys(("g", "beta"), -torch.ones(1, 2, 1)),
        "initial_state": torch.zeros(1, 1, 3, 3),
    }
    calls = MixerCalls()
    calls.add("torch_chunk_gated_delta_rule", arguments, rows)
    assert calls.read().continued
    joined = MixerCalls.of_parts([(calls, 2), (calls, 2)])
    assert not joined.read().flaw
    calls = MixerCalls()
    calls.add("torch_chunk_gated_delta_rule", {**arguments, "initial_state": None}, rows)
    assert not calls.read().continued
    joined = MixerCalls.of_parts([(calls, 2), (calls, 2)])
    assert joined.read().flaw == "a part of it does not go on from the state of the one before"


def test_calls_of_different_forms_have_no_map():
    calls = [MixerCall(torch.ones(3, 2, width), torch.ones(3, 2, width)) for width in (1, 2)]
    assert join_calls(calls).flaw.startswith("its recurrence runs several times")


@pytest.mark.parametrize("rows", [range(149, 150), range(60, 130), range(150)], ids=str)
def test_a_long_delta_rule_is_solved_block_by_block(rows):
    """Against the state token by token, whose output is linear in the values: each in turn is 1."""
    torch.manual_seed(0)
    count, width = 150, 8
    query, key = (torch.randn(count, 1, width, dtype=torch.float64) for _ in range(2))
    key = key / key.norm(dim=-1, keepdim=True)
    decay = -torch.rand(count, 1, dtype=torch.float64)
    strength = torch.rand(count, 1, dtype=torch.float64) * 2
    value = torch.zeros(count, 1, 1, dtype=torch.float64)
    call = MixerCall(value, value, query, key, decay=decay, strength=strength, delta=True)
    weights = call_maps.call_weights(call, [0], rows)[0]
    state = torch.zeros(width, count, dtype=torch.float64)
    for token in range(rows.stop):
        own_key = key[token, 0]
        state = state * decay[token, 0].exp()
        value_row = torch.zeros(count, dtype=torch.float64)
        value_row[token] = 1.0
        state = state + strength[token, 0] * torch.outer(own_key, value_row - own_key @ state)
        if token in rows:
            expected = (query[token, 0] @ state)[: rows.stop]
            torch.testing.assert_close(weights[token - rows.start], expected, rtol=0, atol=1e-12)


def test_a_function_with_arguments_of_another_release_is_told_with_its_version(monkeypatch):
    from transformers.models.qwen3_next import modeling_qwen3_next as file

    function = file.torch_chunk_gated_delta_rule

    def renamed(q, k, v, g, beta, **more):
        return function(q, k, v, g=g, beta=beta, **more)

    monkeypatch.setattr(file, "torch_chunk_gated_delta_rule", renamed)
    scope = scope_of("qwen3_next")
    recording = scope.record(IDS)
    with pytest.raises(ScopeError, match=f"transformers {transformers.__version__} calls torch_ch"):
        token_map(recording, 0, 0, range(len(IDS)))
    reason = scope.verdicts("maps", 0).reason
    assert "without 'query', which this version of llmscope" in reason
