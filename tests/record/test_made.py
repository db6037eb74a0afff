"""How a number came about: its terms sum to it, on any architecture, and name what they are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import llmscope
from llmscope.record.walkthrough import steps
from tests.families import FAMILIES, small_model
from tests.record.test_steps import IDS, recorded, walked

TOLD = {
    *("token embedding", "position embedding", "embedding", "attention norm", "query", "key"),
    *("value", "scores", "pattern", "mixed values", "output projection", "residual add"),
    *("MLP norm", "up projection", "activation", "down projection", "final norm", "logits"),
    *("probabilities", "next token", "rotated query", "rotated key", "gate projection"),
    *("gated neurons", "query norm", "key norm", "norm after attention", "norm after MLP"),
}
"""Steps whose numbers are told, wherever they come."""


def row_of(step, at):
    """All numbers that belong to the token of a cell."""
    row = next((i for i, name in enumerate(step.axes) if name in ("position", "query")), None)
    return step.value if row is None else step.value.take(at[row], row)


def cells(step, count, seed=0):
    """Some cells of a step that hold a number: the corners and others."""
    known = np.argwhere(np.isfinite(step.value))
    some = np.random.default_rng(seed).choice(len(known), min(count, len(known)), replace=False)
    return [tuple(map(int, known[at])) for at in (0, len(known) - 1, *some)]


def hold(step, count=4):
    """Whether the terms of some of its numbers sum to them; False: they are not told."""
    if step.made is None:
        return False
    for at in cells(step, count):
        made = step.made(at)
        scale = max(float(np.nanmax(np.abs(row_of(step, at)))), 1.0 if step.name == "scores" else 0)
        assert made.values.sum() == pytest.approx(float(step.value[at]), abs=1e-5 * scale), (
            step.name
        )
        assert len(made.values) == len(made.factors) + len(made.names)
        if made.along:
            assert len(made.factors) == np.prod([size for _, size in made.along])
        assert made.said
    return True


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text", "gpt_neox"])
@pytest.mark.few(3)
def test_the_terms_of_a_number_sum_to_it(family, layer):
    found = walked(family, layer, position=6)
    told = {step.name for step in found if hold(step)}
    assert {step.name for step in found} - told <= {"tokens", "rotation angles"}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_so_they_do_on_any_architecture(family):
    for step in walked(family, 1, position=6):
        assert hold(step, 2) or step.name not in TOLD or step.reason, step.name


@pytest.mark.parametrize("family", ["bloom", "gemma2", "mixtral", "gpt_oss"])
def test_so_they_do_with_a_bias_a_cap_a_router_or_a_sink(family):
    held = {step.name for step in walked(family, 1, position=6) if hold(step)}
    assert {"scores", "pattern", "mixed values", "logits"} <= held
    assert family != "mixtral" or "router" in held


def test_the_factors_of_a_term_are_numbers_of_earlier_steps_and_of_weights():
    scope = llmscope.load("builtin:sort")
    recording = scope.record("CABACB")
    found = steps(recording, 5, 1, scope.recorder.run)
    by_name = {step.name: step for step in found}
    for step in found:
        assert hold(step) or step.name == "tokens"
        if step.made is None:
            continue
        for at in cells(step, 5):
            made, read = step.made(at), step.reads(at) if step.reads else ()
            for weight, region in zip(step.weights, made.weights, strict=bool(made.weights)):
                numbers = weight.values().reshape(weight.plane)[region]
                if np.ndim(numbers):
                    np.testing.assert_allclose(made.factors[:, 1], numbers, rtol=1e-6)
            if made.along:
                given = found[step.inputs[0]].value[read[0]].reshape(-1)
                np.testing.assert_allclose(made.factors[:, 0], given, rtol=1e-5, atol=1e-6)
    query, key = by_name["query"].value, by_name["key"].value
    made = by_name["scores"].made((2, 4, 1))
    np.testing.assert_allclose(made.values, query[2, 4] * key[2, 1] / 4, rtol=1e-5, atol=1e-7)
    share = by_name["pattern"].made((2, 4, 1))
    powers = np.exp(by_name["scores"].value[2, 4, :5].astype(np.float64))
    assert share.values[0] == pytest.approx(powers[1] / powers.sum(), rel=1e-6)
    assert share.filled.endswith(f"= {powers[1]:.4g} / {powers.sum():.4g}")
    norm, stream = by_name["MLP norm"], by_name["residual add"]  # the last one of that name
    assert stream.part == "mlp"
    row = found[norm.inputs[0]].value[3].astype(np.float64)
    gain, shift = (weight.values()[7] for weight in norm.weights)
    told = norm.made((3, 7))
    size = np.sqrt(row.var() + 1e-5)
    np.testing.assert_allclose(told.values, [gain * (row[7] - row.mean()) / size, shift], rtol=1e-5)
    for number in (gain, row[7], row.mean(), size, shift):
        assert f"{abs(number):.4g}" in told.filled
    assert by_name["next token"].made((0,)).filled.startswith("9")


def test_a_step_that_is_refused_or_is_a_module_of_its_own_tells_nothing():
    model = small_model("llama")
    recorder, _ = recorded(model)
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, args, out: out * 2)
    from tests.record.conftest import prompt_of

    found = steps(recorder.record(prompt_of(IDS), fresh=True), 4, 1, recorder.run)
    assert next(step for step in found if step.reason).made is None
    assert next(step for step in walked("mixtral", 1) if step.name == "experts").made is None


def test_large_scores_are_told_less_the_largest():
    from llmscope.record.walkthrough.terms import shared

    made = shared(torch.tensor([900.0, 899.0], dtype=torch.float64), 1)
    assert made.values[0] == pytest.approx(1 / (1 + np.e))
    assert made.filled == "e^(899 − 900) / Σ = 0.3679 / 1.368"
