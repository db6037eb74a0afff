"""The lens `tokens` with a target, against the logits of plain transformers."""

import numpy as np
import pytest
import torch

import llmscope
from llmscope.errors import ScopeError
from tests.families import CLOSELY, small_model

IDS = (3, 17, 42, 8, 90, 11, 3, 55)
TARGET, VERSUS = 31, 40


def plain(model, ids=IDS):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().numpy()


@pytest.mark.few(3)
@pytest.mark.parametrize("family", CLOSELY)
def test_target_and_versus_have_the_logits_of_transformers_after_each_token(family):
    model = small_model(family)
    scope = llmscope.wrap(model)
    scope.record(IDS)
    logits = plain(model)
    figure = scope.look("tokens", target=TARGET, versus=VERSUS)
    label = scope.loaded_model.label
    assert figure.title == f"Tokens · surprisal; logit of ‹{label(TARGET)}› − ‹{label(VERSUS)}›"
    for name, expected in (
        ("target_logit", logits[:, TARGET]),
        ("versus_logit", logits[:, VERSUS]),
        ("difference", logits[:, TARGET] - logits[:, VERSUS]),
    ):
        assert figure.extra[name] == pytest.approx(expected, abs=1e-5 * np.abs(logits).max()), name
    assert (figure.extra["target_id"], figure.extra["versus_id"]) == (TARGET, VERSUS)
    last = scope.look("next-token", target=TARGET, versus=VERSUS).extra
    assert figure.extra["difference"][-1] == pytest.approx(last["difference"], abs=1e-4)
    plainly = scope.look("tokens")
    assert np.array_equal(figure.values, plainly.values, equal_nan=True)
    assert "target_logit" not in plainly.extra


def test_the_target_of_versus_alone_is_the_likeliest_token_after_the_prompt():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    scope.record(IDS)
    figure = scope.look("tokens", versus=VERSUS)
    best = int(plain(model)[-1].argmax())
    assert figure.extra["target_id"] == best
    assert figure.extra["difference"][-1] > 0


def test_a_longer_prompt_and_another_target_have_their_own_logits():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    for ids in (IDS[:5], IDS, IDS[:3], (*IDS[:4], 60, 61)):
        recording = scope.record(ids)
        logits = plain(model, ids)
        for target in (TARGET, VERSUS, TARGET):
            found = scope.look("tokens", recording=recording, target=target).extra["target_logit"]
            assert found == pytest.approx(logits[:, target], abs=1e-4), (ids, target)


def test_an_edited_pass_has_its_own_logits():
    model = small_model("llama")
    scope = llmscope.wrap(model)
    before = scope.look("tokens", recording=scope.record(IDS), target=TARGET)
    edited = scope.record(IDS, edits=["zero mlp 1"])
    after = scope.look("tokens", recording=edited, target=TARGET)
    layer = model.model.layers[1].mlp
    handle = layer.register_forward_hook(lambda *_: torch.zeros(1, len(IDS), 48))
    expected = plain(model)[:, TARGET]
    handle.remove()
    assert after.extra["target_logit"] == pytest.approx(expected, abs=1e-4)
    assert not np.allclose(after.extra["target_logit"], before.extra["target_logit"], atol=1e-4)


def test_a_token_outside_of_the_vocabulary_is_refused():
    scope = llmscope.wrap(small_model("llama"))
    scope.record(IDS)
    for option in ("target", "versus"):
        with pytest.raises((ValueError, ScopeError), match="vocabulary"):
            scope.look("tokens", **{option: 10_000})
