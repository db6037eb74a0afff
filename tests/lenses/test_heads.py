"""The heads lens, against heads that were built by hand and against loops over eager patterns."""

import gc
import json
import math

import numpy as np
import pytest
import torch

from llmscope.draw import RenderOptions, paint
from llmscope.export import json_text
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.analysis import head_scores as measured
from llmscope.scope.scope import Scope
from tests.families import small_model

pytestmark = pytest.mark.usefixtures("hooks_watch")

IDS = [5, 17, 3, 60, 17, 42, 8, 8, 91, 30, 2, 77, 54]
PER_HEAD = 64  # as many as tokens, and as positions: each has a direction of its own
SHARP = 200.0
BACK = {"induction": 24, "previous-token": 1, "duplicate-token": 25}


def scope_of(module, ids=IDS):
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    scope = Scope(model)
    if ids:
        scope.record(ids)
    return scope


def eager(family, ids, **changes):
    """Attentions of plain transformers, one a layer. [head, query, key], float64"""
    model = small_model(family, **changes)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), output_attentions=True)
    return [attention[0].double().numpy() for attention in output.attentions]


def built_by_hand():
    """A GPT-2 of two layers and three heads, with no MLPs, whose weights are written down.

    The stream has three parts: one-hot token, one-hot position, and the token before, which head 1
    of layer 0 writes. Head 2 of layer 1 looks where the token before is the one that stands here;
    head 0 of layer 1 looks 25 places back. All others look everywhere alike, and write nothing.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    size, width = PER_HEAD, 3 * PER_HEAD
    config = GPT2Config(
        vocab_size=size, n_positions=size, n_embd=width, n_layer=2, n_head=3, bos_token_id=0
    )
    config.eos_token_id = None
    model = GPT2LMHeadModel(config).eval()
    one, token, place, before = (
        torch.eye(size),
        *(slice(i * size, i * size + size) for i in (0, 1, 2)),
    )

    def shifted(back):
        """From the one-hot of a place to that of the place so many after it."""
        return torch.diag(torch.ones(size - back), back)

    def look(block, head, query, key, query_map, key_map):
        weight = block.attn.c_attn.weight  # [input, queries | keys | values]
        columns = slice(head * size, head * size + size)
        weight[query, columns] = SHARP * query_map
        weight[key, slice(width + columns.start, width + columns.stop)] = key_map

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name:
                parameter.zero_()
        model.transformer.wte.weight[:, token] = one
        model.transformer.wpe.weight[:, place] = one
        for layer, block in enumerate(model.transformer.h):
            ones = 2 + layer  # in a row of the stream: the layer norm is undone
            mean = ones / width
            block.ln_1.weight.fill_(math.sqrt(mean - mean * mean))
            block.ln_1.bias.fill_(mean)
        first, second = model.transformer.h
        look(first, 1, place, place, one, shifted(1))
        values = slice(2 * width + size, 2 * width + 2 * size)
        first.attn.c_attn.weight[token, values] = one
        first.attn.c_proj.weight[size : 2 * size, before] = one
        look(second, 2, token, before, one, one)
        look(second, 0, place, place, one, shifted(25))
    return model


@pytest.mark.parametrize(
    ("mode", "known"),
    [("previous-token", (0, 1)), ("induction", (1, 2)), ("duplicate-token", (1, 0))],
)
def test_heads_that_were_built_are_found_and_no_others(mode, known):
    figure = scope_of(built_by_hand(), [1, 2, 3]).look("heads", mode=mode)
    assert figure.verdict.status == "verified"
    assert [axis.name for axis in figure.axes] == ["layer", "head"]
    assert figure.values.shape == (2, 3)
    assert figure.unit == "probability"
    others = np.delete(figure.values, known[0] * 3 + known[1])
    assert figure.values[known] >= 0.99
    assert others.max() <= 0.1
    assert len(figure.extra["sequence"]) == 51
    assert figure.extra["sequence"][0] == 0  # BOS


def test_the_default_is_induction():
    scope = scope_of(built_by_hand(), [1, 2, 3])
    np.testing.assert_array_equal(
        scope.look("heads").values, scope.look("heads", mode="induction").values
    )


@pytest.mark.few(3)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "gpt_oss", "bloom"])
def test_scores_are_means_over_the_second_copy(family):
    scope = scope_of(small_model(family))
    figures = {mode: scope.look("heads", mode=mode) for mode in BACK}
    ids = list(figures["induction"].extra["sequence"])
    assert ids[0] == 0  # the BOS of these configs
    assert len(set(ids)) == 26
    assert ids[1:26] == ids[26:]
    own = eager(family, ids)
    for mode, back in BACK.items():
        for layer, attention in enumerate(own):
            for head, weights in enumerate(attention):
                expected = sum(weights[row, row - back] for row in range(26, 51)) / 25
                assert figures[mode].values[layer, head] == pytest.approx(expected, abs=1e-5)
    assert {figure.verdict.status for figure in figures.values()} == {"verified"}


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "opt", "openai-gpt"])
def test_sink_and_entropy_are_means_over_this_prompt(family, monkeypatch):
    monkeypatch.setattr(measured, "ROOM", 4 * 13 * 5)  # five queries at a time
    scope = scope_of(small_model(family))
    sink, entropy = (scope.look("heads", mode=mode) for mode in ("sink", "entropy"))
    assert (sink.unit, entropy.unit) == ("probability", "bits")
    along = [scope.look("heads", mode=f"{mode}-by-token") for mode in ("sink", "entropy")]
    assert [axis.name for axis in along[0].axes] == ["layer", "position"]
    for layer, attention in enumerate(eager(family, IDS)):
        shares_of, bits_of = [], []
        for head, weights in enumerate(attention):
            rows = [row[: query + 1] for query, row in enumerate(weights)]
            learned = [1 - row.sum() if family == "gpt_oss" else 0.0 for row in rows]
            shares = [row[0] + more for row, more in zip(rows, learned, strict=True)]
            bits = [
                -sum(x * math.log2(x) for x in (*row, more) if x > 0)
                for row, more in zip(rows, learned, strict=True)
            ]
            assert sink.values[layer, head] == pytest.approx(np.mean(shares), abs=1e-5)
            assert entropy.values[layer, head] == pytest.approx(np.mean(bits), abs=1e-4)
            shares_of.append(shares)
            bits_of.append(bits)
        assert along[0].values[layer] == pytest.approx(np.mean(shares_of, axis=0), abs=1e-5)
        assert along[1].values[layer] == pytest.approx(np.mean(bits_of, axis=0), abs=1e-4)


def test_special_tokens_are_sinks_too():
    from dataclasses import replace

    scope = scope_of(small_model("llama"))
    special = tuple(place in (3, 7) for place in range(len(IDS)))
    recording = scope.record(IDS, fresh=True)
    marked = replace(recording, prompt=replace(recording.prompt, special=special))
    figure = scope.look("heads", mode="sink", recording=marked)
    own = eager("llama", IDS)[1][2]
    expected = own[:, [0, 3, 7]].sum(1).mean()
    assert figure.values[1, 2] == pytest.approx(expected, abs=1e-5)


def passes(model):
    """A list that grows with every pass of a model: how many tokens it ran."""
    ran = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: ran.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    return ran


def test_the_live_recording_stays_and_the_cursor_runs_nothing():
    scope = scope_of(small_model("llama"))
    ran = passes(scope.model)  # a hook changes a model: it is recorded with it
    live = scope.record(IDS)
    before = scope.look("attention", layer=1, head=2).values.copy()
    ran.clear()
    scope.look("heads")
    assert ran == [51]
    for mode in BACK:
        for layer, head, position in ((0, 0, 0), (2, 3, 5)):
            places = {"layer": layer, "head": head, "position": position}
            *_, _ = scope.figures("heads", live, Focus(mode=mode, **places))
    assert ran == [51]
    assert scope.latest is live
    longer = scope.record([*IDS, 33])
    assert ran == [51, 1]
    assert (longer.ran, longer.reused) == (1, len(IDS))
    scope.look("heads")
    assert ran == [51, 1]
    fresh = scope_of(small_model("llama"), [*IDS, 33])
    found, own = (one.look("attention", layer=1, head=2).values for one in (scope, fresh))
    np.testing.assert_allclose(found, own, atol=1e-6)
    np.testing.assert_array_equal(
        scope.look("attention", layer=1, head=2, recording=live).values, before
    )


def test_a_letter_measures_one_row(monkeypatch):
    real, weighed = measured.pattern, []
    monkeypatch.setattr(
        measured,
        "pattern",
        lambda *args, rows: (weighed.append(len(rows)), real(*args, rows=rows))[1],
    )
    live = scope_of(small_model("llama"), IDS[:8])
    for count in range(8, 14):
        live.record(IDS[:count])
        found = live.look("heads", mode="entropy")
        assert weighed == [8 if count == 8 else 1] * 3
        weighed.clear()
    live.record(IDS[:6])  # cut inside of the first segment
    cut = live.look("heads", mode="entropy")
    assert weighed == []
    for figure, ids in ((found, IDS), (cut, IDS[:6])):
        fresh = scope_of(small_model("llama"), ids).look("heads", mode="entropy")
        np.testing.assert_allclose(figure.values, fresh.values, atol=1e-5)


def test_what_was_measured_goes_with_the_model():
    scope = scope_of(small_model("gpt2"))
    scope.look("heads")
    model = scope.loaded_model
    assert measured._kept.get(model) is not None
    kept = len(measured._kept._known)
    del scope, model
    gc.collect()
    assert len(measured._kept._known) < kept


@pytest.mark.parametrize("mode", ["induction", "sink"])
def test_layers_without_attention_are_empty_and_named(mode):
    figure = scope_of(small_model("lfm2")).look("heads", mode=mode)
    assert np.isnan(figure.values[[0, 2]]).all()
    assert np.isfinite(figure.values[1]).all()
    assert figure.extra["kinds"] == ("convolution", "attention", "convolution")
    assert figure.verdict.status == "partial"
    assert figure.verdict.reason == (
        "not in layers 0, 2: this layer has no attention: a convolution mixes its tokens"
    )
    said = json.loads(json_text(figure.to_dict()))
    assert said["values"][0] == [None] * 4
    rows = [
        "".join(s.text for s in row) for row in paint(figure, 60, 5, RenderOptions(), Focus()).rows
    ]
    assert [row.split()[:2] for row in rows[1:4]] == [["0", "C"], ["1", "A"], ["▸2", "C"]]


def test_a_model_without_attention_is_refused():
    figure = scope_of(small_model("mamba")).look("heads")
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == ("this layer has no attention: a state space mixes its tokens")


def test_a_layer_whose_patterns_are_wrong_has_no_scores():
    """What the probe accepted and the sequence does not: a rule that a layer has from there on."""
    model = small_model("llama")
    scope = scope_of(model)
    scope.verdicts("patterns")
    layer = model.model.layers[1].self_attn
    layer.register_forward_hook(
        lambda _, args, output: (
            output[0] * (1.5 if output[0].shape[1] > 20 else 1.0),
            *output[1:],
        ),
        prepend=True,
    )
    scope.record(IDS)
    figure = scope.look("heads")
    assert np.isnan(figure.values[1]).all()
    assert np.isfinite(figure.values[[0, 2]]).all()
    assert figure.verdict.status == "partial"
    assert figure.verdict.reason.startswith("not in layers 1: it differs from the model's own")


@pytest.mark.parametrize(
    ("changes", "half"),
    [
        ({"max_position_embeddings": 8}, 3),
        ({"max_position_embeddings": 20}, 9),
        ({"vocab_size": 5}, 4),
    ],
)
def test_small_models_get_a_shorter_sequence(changes, half):
    ids = [1, 2, 3]
    figure = scope_of(small_model("llama", **changes), ids).look("heads", mode="previous-token")
    sequence = figure.extra["sequence"]
    assert (figure.extra["start"], figure.extra["half"]) == (1, half)
    assert len(sequence) == 1 + 2 * half
    own = eager("llama", sequence, **changes)
    rows = range(1 + half, 1 + 2 * half)
    expected = np.mean([own[2][3, row, row - 1] for row in rows])
    assert figure.values[2, 3] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_position_embeddings": 7}, "takes 8 tokens, and the context holds 7"),
        (
            {"vocab_size": 4},
            "takes 4 different tokens, and the vocabulary has 3 beside special ones",
        ),
    ],
)
def test_models_that_are_too_small_are_refused(changes, reason):
    scope = scope_of(small_model("llama", **changes), [1, 2, 3])
    figure = scope.look("heads")
    assert figure.verdict.status == "refused"
    assert reason in figure.verdict.reason
    assert scope.look("heads", mode="sink").verdict.status == "verified"
