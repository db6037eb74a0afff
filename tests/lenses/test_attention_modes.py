"""Modes of the attention lens, each against a loop over its formula on plain eager transformers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmscope.export import json_text, render
from llmscope.figure import Focus
from llmscope.lenses.attention import describe_cursor, half_distance
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.derive import patterns
from llmscope.scope.scope import Scope
from tests.families import small_model
from tests.lenses.asked import options_for

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]  # longer than the windows of 6
COUNT = len(IDS)
HEADS = 4
# Where the values come from, and the projection that the heads' outputs go through.
VALUES = {
    "gpt2": "attn.c_attn",
    "openai-gpt": "attn.c_attn",
    "gpt_neox": "attention.query_key_value",
    "bloom": "self_attention.query_key_value",
}
PROJECTION = {
    "gpt2": "attn.c_proj",
    "openai-gpt": "attn.c_proj",
    "gpt_neox": "attention.dense",
    "bloom": "self_attention.dense",
    "phi": "self_attn.dense",
}
STACK = {
    "gpt2": "transformer.h",
    "openai-gpt": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "bloom": "transformer.h",
}
# Key heads that are shared; biases; blocks side by side; softcap and window; sinks; inside.
FAMILIES = ("llama", "gpt2", "gpt_neox", "phi", "gemma2", "gpt_oss", "bloom", "openai-gpt")


def scope_of(module, ids=IDS):
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    scope = Scope(model)
    scope.record(ids)
    return scope


class Plain:
    """A family's model in plain eager transformers, with its attentions and hooked values."""

    def __init__(self, family):
        self.family, model = family, small_model(family)
        model.set_attn_implementation("eager")
        self.stack = model.get_submodule(STACK.get(family, "model.layers"))
        caught = []
        for layer in self.stack:
            source = layer.get_submodule(VALUES.get(family, "self_attn.v_proj"))
            source.register_forward_hook(lambda _, args, output: caught.append(output[0]))
        with torch.no_grad():
            output = model(input_ids=torch.tensor([IDS]), output_attentions=True)
        self.attentions = [one[0].double() for one in output.attentions]
        self.caught = [one.double() for one in caught]

    def values(self, layer, head):
        """The values of one head. [key, head width]"""
        rows = self.caught[layer]
        if self.family in ("gpt2", "openai-gpt"):  # queries, keys and values side by side
            return rows[:, 96:].reshape(COUNT, HEADS, 12)[:, head]
        if self.family in ("gpt_neox", "bloom"):  # the three of each head side by side
            return rows.reshape(COUNT, HEADS, 3, 12)[:, head, 2]
        return rows.reshape(COUNT, 2, -1)[:, head // 2]  # two heads share one

    def output(self, layer, head):
        """W_O of one head, without the bias. [head width, width]"""
        name = PROJECTION.get(self.family, "self_attn.o_proj")
        weight = self.stack[layer].get_submodule(name).weight.detach().double()
        weight = weight if "c_proj" in name else weight.T  # [heads · head width, width]
        return weight.reshape(HEADS, -1, weight.shape[1])[head]


@pytest.fixture(scope="module", params=FAMILIES)
def both(request):
    return scope_of(small_model(request.param)), Plain(request.param)


def near(figure, expected):
    """Equal to 1e-5 where a key is there, nothing where it is not."""
    seen = np.tril(np.ones((COUNT, COUNT), bool))
    scale = max(1.0, float(np.abs(expected[seen]).max()))
    np.testing.assert_allclose(figure.values[seen], expected[seen], atol=1e-5 * scale)
    assert np.isnan(figure.values[~seen]).all()
    assert figure.verdict.status == "verified"


def test_value_weighted_is_the_length_of_what_is_written(both):
    scope, plain = both
    for layer, head in ((0, 0), (1, 3), (2, 2)):
        figure = scope.look("attention", mode="value-weighted", layer=layer, head=head)
        values, output = plain.values(layer, head), plain.output(layer, head)
        expected = np.zeros((COUNT, COUNT))
        for query in range(COUNT):
            for key in range(query + 1):
                written = plain.attentions[layer][head, query, key] * values[key] @ output
                expected[query, key] = float((written * written).sum()) ** 0.5
        near(figure, expected)
        assert figure.unit == "norm"
        assert "weighted by values" in figure.title


def test_no_sink_is_what_is_left_scaled_to_one(both):
    scope, plain = both
    recording = scope.record(IDS, fresh=True)
    special = tuple(place == 4 for place in range(COUNT))
    marked = replace(recording, prompt=replace(recording.prompt, special=special))
    figure = scope.look("attention", mode="no-sink", layer=2, head=1, recording=marked)
    weights = plain.attentions[2][1].numpy()
    for query in range(COUNT):
        others = [key for key in range(query + 1) if key not in (0, 4)]
        total = sum(weights[query, key] for key in others)
        for key in range(COUNT):
            if key not in others or total == 0:
                assert np.isnan(figure.values[query, key])
            else:
                expected = weights[query, key] / total
                assert figure.values[query, key] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(figure.values[0]).all()
    assert "no first and special tokens" in figure.title
    assert json.loads(json_text(figure.to_dict()))["values"][0] == [None] * COUNT


@pytest.mark.few(8)
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_rollout_is_the_product_of_mixed_means(both, layer, monkeypatch):
    monkeypatch.setattr(patterns, "CHUNK", 5)
    scope, plain = both
    product = np.eye(COUNT)
    for one in plain.attentions[: layer + 1]:
        mixed = (one.numpy().mean(0) + np.eye(COUNT)) / 2
        product = (mixed / mixed.sum(1, keepdims=True)) @ product
    figure = scope.look("attention", mode="rollout", layer=layer)
    near(figure, product)
    assert f"layers 0 to {layer}" in figure.title
    np.testing.assert_allclose(np.nansum(figure.values, axis=1), 1, atol=1e-5)


def test_all_is_every_head(both):
    scope, plain = both
    figure = scope.look("attention", mode="all", layer=1, head=2)
    assert [axis.name for axis in figure.axes] == ["head", "query", "key"]
    seen = np.tril(np.ones((COUNT, COUNT), bool))
    np.testing.assert_allclose(
        figure.values[:, seen], plain.attentions[1].numpy()[:, seen], atol=1e-5
    )
    assert np.isnan(figure.values[:, ~seen]).all()
    assert figure.verdict.status == "verified"


@pytest.mark.parametrize("mode", ["all", "value-weighted", "no-sink", "rollout"])
def test_they_are_exported_in_every_format(mode):
    figure = scope_of(small_model("llama")).look("attention", mode=mode, layer=1)
    for kind in ("json", "npz", "txt", "ansi", "svg"):
        assert render(figure, kind, size=(80, 24))
    said = json.loads(render(figure, "json"))
    assert np.array(said["values"], dtype=float).shape == figure.values.shape
    assert [axis["name"] for axis in said["axes"]] == [axis.name for axis in figure.axes]
    text = render(figure, "txt", size=(80, 24))
    assert figure.title in text
    if mode == "all":
        assert all(f"head {head}" in text for head in range(HEADS))


def test_a_bias_of_the_projection_is_left_out():
    """gpt2's projection has one, and it is not small here: with it every cell would be larger."""
    scope, plain = scope_of(small_model("gpt2")), Plain("gpt2")
    bias = plain.stack[1].attn.c_proj.bias.detach().double()
    assert float(bias.norm()) > 0.5
    figure = scope.look("attention", mode="value-weighted", layer=1, head=0)
    written = plain.attentions[1][0, 0, 0] * plain.values(1, 0)[0] @ plain.output(1, 0)
    assert figure.values[0, 0] == pytest.approx(float(written.norm()), rel=1e-5)
    assert abs(float((written + bias).norm()) - figure.values[0, 0]) > 0.01


def test_a_letter_weighs_one_key(monkeypatch):
    asked = []
    real = patterns.values_of
    monkeypatch.setattr(patterns, "values_of", lambda *given: (asked.append(1), real(*given))[1])
    live = scope_of(small_model("llama"), IDS[:8])
    for count in range(8, COUNT + 1):
        live.record(IDS[:count])
        figure = live.look("attention", mode="value-weighted", layer=1, head=2)
        fresh = scope_of(small_model("llama"), IDS[:count])
        whole = fresh.look("attention", mode="value-weighted", layer=1, head=2)
        np.testing.assert_allclose(figure.values, whole.values, atol=1e-5)
    asked.clear()
    live.look("attention", mode="value-weighted", layer=1, head=2, span=(2, 9))
    assert asked == []
    live.look("attention", mode="value-weighted", layer=1, head=3)
    assert asked == [1]


MODES = ("value-weighted", "no-sink", "rollout", "all")


@pytest.mark.parametrize("mode", MODES)
def test_a_span_is_rows_of_the_whole_and_blocks_are_maxima(mode):
    scope = scope_of(small_model("llama"))
    look = options_for("attention", mode=mode, layer=2, head=3)
    whole = scope.look("attention", **look)
    part = scope.look("attention", span=(4, 9), **look)
    np.testing.assert_allclose(part.values, whole.values[..., 4:9, :], atol=1e-6)
    assert (part.axes[-2].start, part.axes[-2].stop) == (4, 9)
    blocks = scope.look("attention", pool=4, **look)
    assert blocks.values.shape[-2:] == (4, 4)
    assert "max of 4×4 tokens" in blocks.title
    for row in range(4):
        for column in range(4):
            block = whole.values[..., row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            found = blocks.values[..., row, column]
            if column > row:
                assert np.isnan(found).all()
            else:
                np.testing.assert_allclose(found, np.nanmax(block, axis=(-2, -1)), atol=1e-6)


@pytest.mark.few(8)
@pytest.mark.parametrize("mode", ["all", "mean", "raw"])
def test_one_query_is_one_row_of_each_head(both, mode, monkeypatch):
    scope, plain = both
    asked = []
    whole = patterns.pattern

    def watched(recording, layer, head=None, rows=None):
        asked.append(rows)
        return whole(recording, layer, head, rows)

    from llmscope.record.derive import tensors

    monkeypatch.setattr(patterns, "pattern", watched)
    monkeypatch.setattr(tensors, "pattern", watched)
    asked_for = options_for("attention", mode=mode, layer=2, head=1, span=(9, 10))
    figure = scope.look("attention", **asked_for)
    assert set(asked) == {range(9, 10)}, "never the whole pattern"
    rows = plain.attentions[2][:, 9].numpy()
    wanted = {"all": rows[:, None], "mean": rows.mean(0)[None], "raw": rows[1:2]}[mode]
    np.testing.assert_allclose(figure.values[..., :10], wanted[..., :10], atol=1e-5)
    assert np.isnan(figure.values[..., 10:]).all()


def test_all_heads_of_a_long_prompt_are_pooled(monkeypatch):
    from llmscope.lenses import attention

    scope = scope_of(small_model("llama"))
    whole = scope.look("attention", mode="all", layer=1)
    monkeypatch.setattr(attention, "MOST", 4 * 7 * 7)
    figure = scope.look("attention", mode="all", layer=1)
    assert figure.values.shape == (4, 7, 7)
    assert "max of 2×2 tokens" in figure.title
    assert figure.values[2, 3, 1] == np.nanmax(whole.values[2, 6:8, 2:4])
    part = scope.look("attention", mode="all", layer=1, span=(5, 13))
    assert part.values.shape == (4, 5, 7)  # from 4 on, where a block begins
    assert (part.axes[1].start, part.axes[1].step, part.axes[1].labels[0]) == (4, 2, "4–5")
    np.testing.assert_array_equal(part.values, figure.values[:, 2:])


@pytest.mark.parametrize("mode", ["no-sink", "rollout"])
def test_what_is_said_of_shares_is_refused_without_attention(mode):
    figure = scope_of(small_model("mamba")).look("attention", mode=mode)
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason.endswith(
        "this layer has no attention: a state space mixes its tokens"
    )


def test_modes_of_a_map_are_what_its_heads_make():
    scope = scope_of(small_model("mamba2"))
    every = scope.look("attention", layer=1, mode="all")
    assert every.title == "Map of the Mamba-2 recurrence · layer 1 · all 4 heads"
    assert [axis.name for axis in every.axes] == ["head", "query", "key"]
    heads = every.values
    one = scope.look("attention", layer=1, head=2)
    assert (one.unit, one.extra["rule"]) == ("signed weight", "Mamba-2 recurrence")
    assert one.title == "Map of the Mamba-2 recurrence · layer 1 head 2"
    np.testing.assert_array_equal(one.values, heads[2])
    assert np.isnan(one.values[0, 1:]).all()
    assert (one.values < 0).any()
    mean = scope.look("attention", layer=1, mode="mean")
    np.testing.assert_allclose(mean.values, heads.mean(0), atol=1e-7)
    largest = scope.look("attention", layer=1, mode="max").values
    at = np.abs(np.nan_to_num(heads)).argmax(0)
    np.testing.assert_array_equal(largest, np.take_along_axis(heads, at[None], 0)[0])
    weighted = scope.look("attention", layer=1, head=2, mode="value-weighted")
    assert weighted.unit == "norm"
    ratio = weighted.values / np.abs(one.values)  # the length of each value, at every query
    np.testing.assert_allclose(ratio[-1, :3], ratio[4, :3], rtol=1e-5)
    pooled = scope.look("attention", layer=1, head=2, pool=2)
    assert pooled.title.endswith("largest of 2×2 tokens")
    block = one.values[4:6, 2:4].ravel()
    assert pooled.values[2, 1] == block[np.abs(block).argmax()]


def test_a_head_of_a_map_may_be_one_that_attention_does_not_have():
    scope = scope_of(small_model("bamba"))
    assert scope.look("attention", layer=0, head=-1).title.endswith("layer 0 head 5")
    assert scope.look("attention", layer=1, head=-1).title == "Attention · layer 1 head 3"
    with pytest.raises(ValueError, match="head 6 is out of range"):
        scope.look("attention", layer=0, head=6)
    with pytest.raises(ValueError, match="head 4 is out of range"):
        scope.look("attention", layer=1, head=4)


def test_half_of_the_weight_is_counted_from_the_token_itself():
    assert half_distance(np.array([0.0, 0.0, -3.0], np.float32)) == 0
    assert half_distance(np.array([-2.0, 0.5, 0.5], np.float32)) == 2
    assert half_distance(np.array([0.0, 2.0, 1.0], np.float32)) == 1
    assert half_distance(np.zeros(3, np.float32)) is None


def test_the_readout_tells_what_a_head_remembers():
    scope = scope_of(small_model("lfm2"))
    figure = scope.look("attention", layer=0, head=3)
    own = figure.values[-1]
    key = int(np.nanargmax(np.abs(own)))
    back = half_distance(own)
    most, half = describe_cursor(figure, Focus(layer=0, head=3, position=len(own) - 1))
    assert most.startswith("channel 3 takes most from ‹")
    assert most.endswith(f"({own[key]:+.3g})")
    assert half == (
        "half of |weight| on the token itself"
        if not back
        else f"half of |weight| within {back} token{'s' * (back > 1)} back"
    )


def test_rollout_stands_on_every_layer_below():
    scope = scope_of(small_model("lfm2"))
    assert scope.look("attention", layer=1).verdict.status == "verified"
    figure = scope.look("attention", layer=1, mode="rollout")
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == (
        "layer 0: this layer has no attention: a convolution mixes its tokens"
    )


def test_rollout_of_a_long_prompt_is_refused_with_its_length():
    length = 1025
    model = small_model("llama", max_position_embeddings=length)
    figure = scope_of(model, [1 + i % 90 for i in range(length)]).look("attention", mode="rollout")
    assert figure.verdict.status == "refused"
    assert "up to 1024 tokens, and this one has 1025" in figure.verdict.reason


def test_values_that_cannot_be_had_are_refused(monkeypatch):
    def nothing(recording, layer):
        raise ValueError("this layer's values cannot be seen")

    scope = scope_of(small_model("llama"))
    monkeypatch.setattr(patterns, "values_of", nothing)
    figure = scope.look("attention", mode="value-weighted")
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == "this layer's values cannot be seen"
