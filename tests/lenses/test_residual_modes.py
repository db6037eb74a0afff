"""Outlier dimensions and the scale of norms, against plain transformers and the formulas."""

import numpy as np
import pytest
import torch

from tests.families import small_model
from tests.lenses.test_experts import IDS, scope_on

POSITION = 4


def streams(model, stack):
    """What enters each layer, and what leaves the last. [layer + 1, position, width]"""
    layers, found = model.get_submodule(stack), []

    def enter(_, args, kwargs):
        found.append((args[0] if args else kwargs["hidden_states"])[0].clone())

    for layer in layers:
        layer.register_forward_pre_hook(enter, with_kwargs=True)
    layers[-1].register_forward_hook(
        lambda _, args, out: found.append((out[0] if isinstance(out, tuple) else out)[:1][0])
    )
    with torch.no_grad():
        model(input_ids=torch.tensor([IDS]), use_cache=False)
    return torch.stack([one.reshape(len(IDS), -1) for one in found]).double().numpy()


@pytest.mark.parametrize(
    ("family", "stack"), [("llama", "model.layers"), ("gpt2", "transformer.h")]
)
def test_outliers_are_ranked_by_how_far_they_stand_out(family, stack):
    scope = scope_on(family)
    figure = scope.look("residual", mode="outliers", position=POSITION, top_k=5)
    rows = streams(small_model(family), stack)[:, POSITION]  # [layer + 1, width]
    ranked = sorted(
        range(48),
        key=lambda dimension: -max(abs(row[dimension]) / np.median(abs(row)) for row in rows),
    )
    assert figure.axes[1].labels == tuple(map(str, ranked[:5]))
    assert figure.axes[0].labels == ("embed", "0", "1", "2")
    expected = np.abs(rows[:, ranked[:5]]) / np.median(np.abs(rows), axis=1, keepdims=True)
    assert figure.values == pytest.approx(expected, rel=1e-4)
    assert figure.extra["stream"] == pytest.approx(rows[:, ranked[:5]], rel=1e-4, abs=1e-6)


def test_a_dimension_made_large_comes_first():
    scope = scope_on("llama")
    scope.latest.parts[0][0].layers[1].stream[POSITION, 29] = -500.0
    figure = scope.look("residual", mode="outliers", position=POSITION, top_k=3)
    assert figure.extra["dimensions"][0] == 29
    assert figure.values[:, 0].argmax() == 1
    assert figure.extra["stream"][1, 0] == -500.0
    assert "dimension 29 at layer 0: -500" in figure.extra["caption"][0]


@pytest.mark.parametrize(
    ("family", "stack", "norm", "unit"),
    [
        ("llama", "model.layers", "input_layernorm", "1 / rms"),
        ("gemma2", "model.layers", "input_layernorm", "1 / rms"),
        ("mamba", "backbone.layers", "norm", "1 / rms"),
        ("gpt2", "transformer.h", "ln_1", "1 / std"),
        ("gpt_neox", "gpt_neox.layers", "input_layernorm", "1 / std"),
        ("olmo", "model.layers", "input_layernorm", "1 / std"),
    ],
)
def test_the_scale_is_that_of_the_norms_formula(family, stack, norm, unit):
    figure = scope_on(family).look("residual", mode="scale")
    model = small_model(family)
    module = getattr(model.get_submodule(stack)[0], norm)
    eps = getattr(module, "eps", None) or getattr(module, "variance_epsilon", None) or 1e-5
    rows = streams(model, stack)[:-1]
    if unit == "1 / std":
        rows = rows - rows.mean(-1, keepdims=True)
    own = 1 / np.sqrt((rows**2).mean(-1) + eps)
    assert figure.unit == unit
    assert figure.verdict.status == "verified"
    assert [axis.name for axis in figure.axes] == ["layer", "position"]
    assert figure.values == pytest.approx(own, rel=1e-5)


def test_the_norm_that_reads_the_stream_is_told_from_the_others():
    """OLMo 2 norms what it wrote and not what it reads."""
    figure = scope_on("olmo2").look("residual", mode="scale")
    assert figure.verdict.status == "refused"
    assert figure.verdict.reason == "no layer norms the stream before it reads it"
