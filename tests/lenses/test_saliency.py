"""Saliency against autograd by hand and finite differences, on plain transformers in float64."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.figure import Focus
from llmscope.models.anatomy import find
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.analysis.saliency import (
    gradient_times_input,
    integrated_gradients,
    log_probability,
)
from llmscope.scope.scope import Scope
from tests.all_families import small_model as any_model
from tests.families import small_model
from tests.lenses.test_experts import IDS
from tests.record.conftest import prompt_of, recorder_for

TARGET, POSITION = 11, 5
STEPS = 32
EXPERTS = ("mixtral", "jamba")  # torch multiplies for them in float32 at most


def model_of(family):
    model = small_model(family)
    return model if family in EXPERTS else model.double()


def scope_on(family):
    model = model_of(family)
    dtype = next(model.parameters()).dtype
    scope = Scope(LoadedModel("test", "test", model, None, find(model), torch.device("cpu"), dtype))
    scope.record(IDS)
    return scope


def log_p(model, change):
    """The target's log-probability, for as many prompts as the changed embeddings hold. [batch]"""
    hook = model.get_input_embeddings().register_forward_hook(lambda _, args, out: change(out))
    try:
        count = len(change(torch.zeros(1, len(IDS), 48, dtype=torch.float64)))
        ids = torch.tensor([IDS]).expand(count, -1)
        logits = model(input_ids=ids, use_cache=False).logits[:, POSITION]
    finally:
        hook.remove()
    return torch.log_softmax(logits, -1)[:, TARGET]


def gradients(model, shares=(1.0,)):
    """d log p / d e by hand, at shares of the embeddings, and the embeddings.

    [share, row, width], [row, width]
    """
    kept = {}

    def leaf(output):
        scale = torch.tensor(shares, dtype=output.dtype)[:, None, None]
        kept["input"] = output.detach()[0]
        kept["leaf"] = (output.detach()[:1] * scale).requires_grad_()
        return kept["leaf"]

    log_p(model, leaf).sum().backward()
    return kept["leaf"].grad, kept["input"]


def slopes(model, shares=(1.0,), step=1e-6):
    """How log p grows with the length of each token's embedding, by differences. [share, row]"""
    rows = POSITION + 1
    factors = torch.ones(len(shares), rows, 2, len(IDS), dtype=torch.float64)
    factors *= torch.tensor(shares, dtype=torch.float64)[:, None, None, None]
    for row in range(rows):
        factors[:, row, 0, row] += step
        factors[:, row, 1, row] -= step
    with torch.no_grad():
        found = log_p(model, lambda output: output[:1] * factors.reshape(-1, len(IDS), 1))
    there, back = found.reshape(len(shares), rows, 2).unbind(-1)
    return ((there - back) / (2 * step)).numpy()


def gained(model):
    """log p of the input less log p of zero embeddings."""
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        with_tokens, without = log_p(model, lambda output: output[:1] * ends)
    return float(with_tokens - without)


def midpoints():
    return [(step + 0.5) / STEPS for step in range(STEPS)]


@pytest.mark.few(4)
@pytest.mark.parametrize(
    "family",
    ["gpt2", "llama", "gemma2", "gemma3_text", "mixtral", "bloom", "opt", "mamba", "jamba"],
)
def test_gradient_times_input_equals_autograd_by_hand(family):
    figure = scope_on(family).look("saliency", target=TARGET, position=POSITION)
    model = model_of(family)
    slope, start = gradients(model)
    own = (slope[0] * start).sum(-1)
    assert own[POSITION + 1 :].abs().max() == 0  # what comes later cannot matter
    assert figure.verdict.status == "verified"
    assert figure.axes[0].labels == tuple(map(str, IDS[: POSITION + 1]))
    scale = float(own.abs().max())
    assert figure.values == pytest.approx(own[: POSITION + 1].numpy(), abs=1e-4 * scale)
    with torch.no_grad():
        score = float(log_p(model, lambda output: output))
    assert figure.extra["log_probability"] == pytest.approx(score, rel=1e-5)
    assert figure.extra["sum"] == pytest.approx(float(own.sum()), abs=1e-4 * scale)


# Llama's norm is in float32 whatever the model is in: there the steps must be longer.
@pytest.mark.parametrize(
    ("family", "step", "bound"),
    [("gpt2", 1e-6, 1e-6), ("opt", 1e-3, 1e-3), ("llama", 2e-3, 2e-3), ("qwen3", 2e-3, 2e-3)],
)
def test_gradient_times_input_equals_finite_differences(family, step, bound):
    figure = scope_on(family).look("saliency", target=TARGET, position=POSITION)
    (own,) = slopes(model_of(family), step=step)
    assert figure.values == pytest.approx(own, abs=bound * np.abs(own).max())


@pytest.mark.parametrize("family", ["gpt2", "gpt_bigcode", "openai-gpt"])
def test_integrated_gradients_are_means_over_midpoints_and_complete(family):
    model = model_of(family)
    figure = scope_on(family).look("saliency", mode="integrated", target=TARGET, position=POSITION)
    found, start = gradients(model, midpoints())
    own = (found.mean(0) * start).sum(-1)[: POSITION + 1].numpy()
    size = np.abs(own).sum()
    assert figure.values == pytest.approx(own, abs=1e-6 * size)
    assert figure.values == pytest.approx(slopes(model, midpoints()).mean(0), abs=1e-6 * size)
    # Complete: they sum to what log p gained, within a thousandth of all that they say.
    error = figure.values.astype(np.float64).sum() - gained(model)
    assert abs(error) <= 1e-3 * size
    assert figure.extra["completeness_error"] == pytest.approx(error, abs=1e-6 * size)
    assert figure.verdict.status == "verified"


def test_integrated_gradients_of_a_long_prompt_say_how_far_they_are(monkeypatch):
    """A pass takes some of the steps; the sum is the same as that of all steps at once."""
    scope = scope_on("gpt2")
    asked = {"mode": "integrated", "target": TARGET, "position": POSITION}
    whole = scope.look("saliency", **asked)
    assert "progress" not in whole.extra
    monkeypatch.setattr("llmscope.record.analysis.saliency.ROWS", 10 * (POSITION + 1))
    *partial, last = scope.figures(
        "saliency", scope.record(IDS), Focus(mode="integrated", target=TARGET, position=POSITION)
    )
    assert [one.extra["progress"] for one in partial] == [(done, STEPS) for done in (0, 10, 20, 30)]
    assert all(np.isnan(one.values).all() for one in partial)
    assert "progress" not in last.extra
    scale = float(np.abs(whole.values).max())
    assert last.values == pytest.approx(whole.values, abs=1e-6 * scale)


def test_integrated_gradients_that_miss_their_sum_say_so():
    """Where embeddings are normed first, 32 steps do not see what happens beside zero."""
    seen = {}
    for family in ("gpt2", "opt", "llama"):
        model = model_of(family)
        figure = scope_on(family).look(
            "saliency", mode="integrated", target=TARGET, position=POSITION
        )
        found, start = gradients(model, midpoints())
        total = float((found.mean(0) * start).sum())
        missed = abs(total - gained(model)) / abs(gained(model))
        expected = "verified" if missed < 0.05 else "partial" if missed < 0.5 else "refused"
        assert figure.verdict.status == expected, (family, missed)
        if expected != "verified":
            assert figure.verdict.reason.startswith("32 steps miss")
            assert figure.verdict.discrepancy == pytest.approx(missed, rel=1e-3)
        seen[family] = expected
    assert seen == {"gpt2": "verified", "opt": "partial", "llama": "refused"}


def test_the_batches_of_a_long_prompt_change_nothing(monkeypatch):
    from llmscope.record.analysis import saliency

    scope = scope_on("gpt2")
    whole = scope.look("saliency", mode="integrated", target=TARGET)
    monkeypatch.setattr(saliency, "ROWS", 15)  # two steps at once
    assert scope.look("saliency", mode="integrated", target=TARGET).values == pytest.approx(
        whole.values, rel=1e-6
    )


def by_hand(family, ids, target, shares):
    """The mean gradient of log p at shares of the embeddings, times the embeddings. [row]"""
    model, total = any_model(family), 0
    for share in shares:
        kept = {}

        def replaced(_, args, looked_up, share=share, kept=kept):
            kept["start"] = looked_up.detach().clone()
            kept["leaf"] = (share * kept["start"]).requires_grad_()
            return kept["leaf"].clone()

        hook = model.get_input_embeddings().register_forward_hook(replaced)
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        hook.remove()
        torch.log_softmax(logits, -1)[target].backward()
        total = total + (kept["leaf"].grad * kept["start"]).sum(-1).reshape(-1)
    return total / len(shares)


# Factors behind the table, rotations as complex numbers, a sum in place, ids that are needed as
# well; and rows before prompts, also where there are as many of both.
@pytest.mark.few(5)
@pytest.mark.parametrize("mode", ["gradient", "integrated"])
@pytest.mark.parametrize(
    ("family", "count"),
    [
        *(("falcon_h1", 9), ("mvp", 9), ("deepseek_v2", 9), ("llama4_text", 9)),
        *(("ctrl", 9), ("gemma4", 9), ("xlnet", 9), ("xlnet", STEPS)),
    ],
)
def test_what_a_model_makes_of_its_embeddings_is_in_the_pass(family, count, mode):
    ids = [IDS[place % len(IDS)] for place in range(count)]
    recorder, own = recorder_for(any_model(family)), log_probability(TARGET)
    recording = recorder.record(prompt_of(ids))
    if mode == "gradient":
        found = gradient_times_input(recording, count - 1, own, recorder.run)
    else:
        *_, (_, found) = integrated_gradients(recording, count - 1, own, recorder.run)
    by_autograd = by_hand(family, ids, TARGET, (1.0,) if mode == "gradient" else midpoints())
    bound = 1e-4 * float(by_autograd.abs().max())
    assert found.values.numpy() == pytest.approx(by_autograd.numpy(), abs=bound)


def test_a_model_that_looks_its_tokens_up_twice_is_refused():
    model = small_model("llama")
    table = model.get_input_embeddings()

    def look_up(*_):
        table(torch.tensor([[1]]))

    model.model.register_forward_pre_hook(look_up)
    scope = llmscope.wrap(model)
    scope.record(IDS)
    verdict = scope.look("saliency").verdict
    assert verdict.status == "refused"
    assert verdict.reason == "the model does not look up each token's embedding once, in one table"


@pytest.mark.parametrize("family", ["axk2", "deepseek_v32"])
def test_a_part_that_the_models_code_takes_no_gradient_of_is_named(family):
    scope = llmscope.wrap(any_model(family))
    scope.record(IDS)
    assert scope.look("saliency").verdict.reason == (
        "the model's own code takes no gradient through model.layers.0.self_attn.indexer.wq_b"
    )


def test_a_model_that_says_something_else_of_embeddings_is_refused(monkeypatch):
    scope = scope_on("llama")
    scope._watching = False  # what is patched is not to be noticed
    monkeypatch.setattr(
        scope.model.get_input_embeddings(),
        "forward",
        lambda ids: torch.ones((*ids.shape, 48), dtype=torch.float64),
    )
    figure = scope.look("saliency")
    assert figure.verdict.status == "refused"
    assert "other logits for embeddings" in figure.verdict.reason


def test_the_target_is_the_likeliest_token_and_must_exist():
    scope = scope_on("llama")
    best = scope.look("next-token", position=4).extra["ids"][0]
    assert scope.look("saliency", position=4).extra["target_id"] == best
    with pytest.raises(ValueError, match="token 96 is out of range"):
        scope.look("saliency", target=96)
