"""Lenses: each figure against numbers worked out here, from plain transformers or by hand."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmscope.lenses import lens, names
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.scope.scope import Scope
from tests.families import small_model

IDS = [5, 17, 3, 60, 17, 42, 8]


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture(scope="module")
def scope():
    module = small_model("llama")
    parameter = next(module.parameters())
    model = LoadedModel(
        "test", "test", module, None, find(module), parameter.device, parameter.dtype
    )
    scope = Scope(model)
    scope.record(IDS)
    return scope


@pytest.fixture(scope="module")
def eager(model):
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(
            input_ids=torch.tensor([IDS]), output_attentions=True, output_hidden_states=True
        )


def test_every_lens_tells_what_it_shows_and_stands_on_what_is_checked():
    expected = {
        *("tokens", "next-token", "attention", "mlp", "residual", "logit-lens", "experts"),
        *("context", "heads", "attribution", "neurons", "saliency", "ablation", "patching"),
        *(
            "contrast",
            "walkthrough",
            "stages",
            "features",
            "model-diff",
            "probe",
            "reasoning",
            "passages",
        ),
    }
    assert set(names()) == expected
    for name in names():
        one = lens(name)
        assert one.name == name
        assert one.question.endswith("?")
        assert len(one.help) > 200
        # What a dictionary reads decides; a probe reads streams as they were recorded.
        assert one.needs or name in ("features", "probe")
    with pytest.raises(ValueError, match="no lens 'nope'"):
        lens("nope")


@pytest.mark.parametrize("position", [-1, 2])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_next_token_is_the_softmax_of_the_logits(scope, eager, position, temperature):
    figure = scope.look("next-token", position=position, temperature=temperature, top_k=5)
    logits = eager.logits[0, position].double()
    probabilities = torch.softmax(logits / temperature, -1)
    top = probabilities.topk(5)
    assert figure.extra["ids"].tolist() == top.indices.tolist()
    assert figure.values == pytest.approx(top.values.numpy(), abs=1e-5)
    assert figure.extra["logits"] == pytest.approx(logits[top.indices].numpy(), abs=1e-4)
    entropy = -(probabilities * probabilities.log2()).sum()
    assert figure.extra["entropy"] == pytest.approx(float(entropy), abs=1e-4)
    assert figure.axes[0].labels == tuple(map(str, top.indices.tolist()))


def test_next_token_ranks_the_target(scope, eager):
    order = eager.logits[0, -1].argsort(descending=True)
    target = int(order[20])
    figure = scope.look("next-token", target=target)
    assert figure.extra["target_rank"] == 21
    expected = torch.softmax(eager.logits[0, -1].double(), -1)[target]
    assert figure.extra["target_probability"] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    "cut", [{}, {"sample_top_k": 3}, {"top_p": 0.4}, {"min_p": 0.3}, {"top_p": 0.0, "min_p": 1.0}]
)
def test_what_transformers_would_cut_is_not_kept(scope, eager, cut):
    figure = scope.look("next-token", top_k=96, temperature=0.7, **cut)
    scores = TemperatureLogitsWarper(0.7)(None, eager.logits[:, -1])
    if "sample_top_k" in cut:
        scores = TopKLogitsWarper(cut["sample_top_k"])(None, scores)
    if "top_p" in cut:
        scores = TopPLogitsWarper(cut["top_p"])(None, scores)
    if "min_p" in cut:
        scores = MinPLogitsWarper(cut["min_p"])(None, scores)
    left = torch.isfinite(scores[0])[figure.extra["ids"].tolist()]
    assert figure.extra["kept"].tolist() == left.tolist()
    assert (int(left.sum()) < 96) == bool(cut)


def test_attention_is_the_eager_pattern_and_its_mean_and_maximum(scope, eager):
    own = eager.attentions[1][0].numpy()
    seen = np.tril(np.ones(own.shape[1:], bool))
    for mode, expected in (("raw", own[3]), ("mean", own.mean(0)), ("max", own.max(0))):
        head = {"head": 3} if mode == "raw" else {}
        figure = scope.look("attention", layer=1, mode=mode, **head)
        assert figure.values[seen] == pytest.approx(expected[seen], abs=1e-5)
        assert np.isnan(figure.values[~seen]).all()
    assert scope.look("attention", layer=1, head=3).values[seen] == pytest.approx(
        own[3][seen], abs=1e-5
    )


def test_mlp_lists_the_strongest_neurons_of_the_position(scope, model):
    caught = []
    down = model.model.layers[2].mlp.down_proj
    hook = down.register_forward_pre_hook(lambda _, args: caught.append(args[0][0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]))
    hook.remove()
    figure = scope.look("mlp", layer=2, position=4, top_k=6)
    order = caught[0][4].abs().argsort(descending=True)[:6]
    assert figure.extra["neurons"] == order.tolist()
    assert figure.values == pytest.approx(caught[0][:, order].numpy(), abs=1e-4)
    overview = scope.look("mlp", mode="overview")
    assert overview.values[2] == pytest.approx(caught[0].norm(dim=-1).numpy(), rel=1e-5)


def test_residual_rows_are_the_hidden_states_norms(scope, eager):
    figure = scope.look("residual", mode="stream")
    assert figure.axes[0].labels == ("embed", "0", "1", "2")
    for row in range(3):  # the last hidden state of transformers is already normed
        own = eager.hidden_states[row][0].norm(dim=-1)
        assert figure.values[row] == pytest.approx(own.numpy(), rel=1e-5)
    assert scope.look("residual", mode="cosine").values[-1] == pytest.approx(1.0, abs=1e-6)


def test_surprisal_sums_to_the_training_loss(scope, model):
    ids = torch.tensor([IDS])
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    figure = scope.look("tokens")
    assert np.nanmean(figure.values) * math.log(2) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "focus", "message"),
    [
        ("attention", {"layer": 3}, "layer 3 is out of range"),
        ("attention", {"head": -5}, "head -5 is out of range"),
        ("next-token", {"position": 7}, "position 7 is out of range"),
        ("next-token", {"temperature": 0.0}, "temperature"),
        ("next-token", {"target": 96}, "token 96 is out of range"),
        ("attention", {"mode": "loud"}, "no mode 'loud'"),
        ("mlp", {"top_k": 0}, "top_k"),
        ("nope", {}, "no lens"),
    ],
)
def test_what_does_not_exist_raises(scope, name, focus, message):
    with pytest.raises(ValueError, match=message):
        scope.look(name, **focus)


def test_negative_indices_count_from_the_end(scope):
    assert scope.look("attention", layer=-1, head=-1).extra["layer"] == 2
    one = scope.look("next-token", position=-2)
    assert one.extra["position"] == len(IDS) - 2


def test_a_refused_capability_gives_a_figure_that_says_why(scope, monkeypatch):
    from llmscope.figure import Verdict

    refused = (Verdict("refused", "it differs", 0.5),) * 3
    monkeypatch.setitem(scope.verdicts.layers, "patterns", refused)
    figure = scope.look("attention")
    assert figure.verdict == Verdict("refused", "it differs", 0.5)
    assert figure.axes == ()
    assert figure.to_dict()["values"] is None
    assert scope.look("mlp").verdict.status == "verified"


def test_maps_of_a_hybrid_name_the_kind_of_each_layer(scope):
    from tests.lenses.test_experts import scope_on

    kinds = {
        "jamba": ("state space", "attention", "state space"),
        "lfm2": ("convolution", "attention", "convolution"),
        "recurrent_gemma": ("recurrent", "recurrent", "attention"),
    }
    for family, expected in kinds.items():
        hybrid = scope_on(family)
        assert hybrid.look("residual", mode="attention").extra["kinds"] == expected
    overview = scope_on("lfm2").look("mlp", mode="overview")
    assert overview.extra["kinds"] == kinds["lfm2"]
    for name, mode in (("residual", "stream"), ("mlp", "overview")):
        assert "kinds" not in scope.look(name, mode=mode).extra
