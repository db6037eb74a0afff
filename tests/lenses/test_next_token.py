"""The candidates of the next token, reduced where the logits are: the same as on the CPU."""

import numpy as np
import pytest
import torch

from llmscope.figure import Focus
from llmscope.lenses.next_token import TEMPERATURE, _best, _reduce_on_device
from llmscope.record.fetch import fetched
from tests.families import small_model
from tests.record.interventions.test_edited import scope_for


def logits(ties, seed, tokens=5000):
    scores = torch.randn(tokens, generator=torch.Generator().manual_seed(seed)) * 4
    return scores.round() if ties else scores


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("target", [None, 0, 4321])
@pytest.mark.parametrize(("top_k", "temperature"), [(1, 1.0), (40, 0.3), (9999, 1.0)])
def test_both_roads_give_the_same(seed, ties, target, top_k, temperature):
    scores = logits(ties, seed)
    focus = TEMPERATURE.set(Focus(top_k=top_k, target=target), temperature)
    ours, own = _best(scores, focus), fetched(_reduce_on_device(scores, focus))
    assert own.ids.tolist() == ours.ids.tolist()
    assert own.logits.tolist() == ours.logits.tolist()
    assert own.kept.tolist() == ours.kept.tolist()
    assert (own.target, own.rank) == (ours.target, ours.rank)
    np.testing.assert_allclose(own.probabilities, ours.probabilities, rtol=1e-12)
    assert own.entropy == pytest.approx(ours.entropy, rel=1e-12)
    assert own.target_probability == pytest.approx(ours.target_probability, rel=1e-12)


def test_equal_scores_come_in_the_order_of_their_ids():
    scores = torch.zeros(1000)
    scores[[7, 600, 601]] = 2.0
    for best in (_best(scores, Focus(top_k=6)), fetched(_reduce_on_device(scores, Focus(top_k=6)))):
        assert best.ids.tolist() == [7, 600, 601, 0, 1, 2]


def test_impossible_tokens_add_nothing():
    scores = torch.full((100,), -torch.inf)
    scores[[3, 4]] = 5.0
    for best in (_best(scores, Focus(top_k=3)), fetched(_reduce_on_device(scores, Focus(top_k=3)))):
        assert best.probabilities.tolist() == [0.5, 0.5, 0.0]
        assert best.entropy == pytest.approx(1.0)


@pytest.mark.parametrize("one", [torch.nan, torch.inf])
def test_what_is_not_finite_has_no_candidates(one):
    scores = logits(False, 0)
    scores[17] = one
    assert _best(scores, Focus()) is None
    assert fetched(_reduce_on_device(scores, Focus())) is None


def test_the_difference_of_two_logits_here_without_the_edits_and_after_b():
    scope = scope_for(small_model("llama"))
    prompt, other = (3, 5, 7, 11), (3, 5, 8, 11)
    plain = {
        ids: scope.model(torch.tensor([ids])).logits[0, -1].detach() for ids in (prompt, other)
    }
    wanted = {ids: float(logits[11] - logits[40]) for ids, logits in plain.items()}
    asked = {"target": 11, "versus": 40}
    figure = scope.look("next-token", recording=scope.record(prompt), **asked)
    assert figure.extra["target_logit"] == pytest.approx(float(plain[prompt][11]), abs=1e-5)
    assert figure.extra["versus_logit"] == pytest.approx(float(plain[prompt][40]), abs=1e-5)
    assert figure.extra["difference"] == pytest.approx(wanted[prompt], abs=1e-5)
    apart = scope.look("next-token", change=True, versus_prompt=other, **asked)
    assert apart.extra["difference"] == pytest.approx(wanted[prompt], abs=1e-5)
    assert apart.extra["other_difference"] == pytest.approx(wanted[other], abs=1e-5)
    edited = scope.record(prompt, edits=["patch stream 0 from B"], versus_prompt=other)
    figure = scope.look("next-token", recording=edited, **asked)
    assert figure.extra["difference"] == pytest.approx(wanted[other], abs=1e-5)
    assert figure.extra["unedited_difference"] == pytest.approx(wanted[prompt], abs=1e-5)
    with pytest.raises(ValueError, match="token 96 is out of range"):
        scope.look("next-token", versus=96)
