"""Surprisal, rank and entropy from logits, against float64 and by definition."""

import numpy as np
import pytest
import torch

from llmscope.record.derive import token_stats
from llmscope.record.derive.token_stats import FEW, rank_range
from llmscope.record.fetch import fetched


def predictions(scores, following):
    return fetched(token_stats.predictions(scores, following))


def logits(rows, tokens=500, scale=4.0):
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(rows)) * scale


@pytest.mark.parametrize("scale", [0.1, 4.0, 40.0])
@pytest.mark.parametrize("rows", [1, FEW, 2 * FEW + 3])
def test_they_are_what_float64_says(rows, scale):
    scores = logits(rows, scale=scale)
    following = tuple((37 * row) % 500 for row in range(rows - 1))
    surprisal, rank, entropy = predictions(scores, following)
    bits = torch.log_softmax(scores.double(), -1) / np.log(2)
    chosen = bits[range(rows - 1), list(following)]
    assert (surprisal.shape, rank.shape, entropy.shape) == ((rows - 1,), (rows - 1,), (rows,))
    assert surprisal == pytest.approx(-chosen.numpy(), rel=1e-5, abs=1e-5)
    assert rank.tolist() == [
        1 + int((row > one).sum()) for row, one in zip(bits, chosen, strict=False)
    ]
    assert entropy == pytest.approx(-(bits.exp2() * bits).sum(-1).numpy(), rel=1e-5, abs=1e-5)


def test_equal_logits_share_a_place():
    scores = torch.tensor([[3.0, 1.0, 1.0, 1.0, 0.0]])
    assert predictions(scores, (2,))[1].tolist() == [2.0]
    assert predictions(scores, (4,))[1].tolist() == [5.0]


def test_a_token_that_is_impossible_adds_nothing_and_surprises_without_end():
    scores = torch.tensor([[0.0, 0.0, -torch.inf, 0.0, 0.0]])
    surprisal, rank, entropy = predictions(scores, (1,))
    assert (surprisal[0], rank[0], entropy[0]) == pytest.approx((2.0, 1.0, 2.0))
    surprisal, rank, entropy = predictions(scores, (2,))
    assert (surprisal[0], rank[0], entropy[0]) == (np.inf, 5.0, pytest.approx(2.0))


def test_certainty_has_no_entropy():
    scores = torch.full((1, 500), -torch.inf)
    scores[0, 7] = 20.0
    surprisal, rank, entropy = predictions(scores, (7,))
    assert (surprisal[0], rank[0], entropy[0]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("one", [torch.nan, torch.inf])
def test_no_number_is_made_of_what_is_none(one):
    scores = logits(3)
    scores[1, 40] = one
    found = predictions(scores, (5, 40, 9))
    for values in found:
        assert np.isnan(values).tolist() == [False, True, False]
    found = predictions(torch.full((1, 500), -torch.inf), (5,))
    assert all(np.isnan(values).all() for values in found)


@pytest.mark.parametrize("bound", [0.0, 1e-6, 1e-3, 0.1])
def test_each_rank_that_rounding_gives_lies_in_its_range(bound):
    scores = logits(40)
    following = tuple((37 * row) % 500 for row in range(40))
    exact = predictions(scores, following)[1]
    low, high = rank_range(scores, following, bound)
    assert (low <= exact).all()
    assert (exact <= high).all()
    moved_ranks = False
    for seed in range(20):
        noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        moved = scores + bound * scores.abs().amax(-1, keepdim=True).clamp(min=1) * noise
        found = predictions(moved, following)[1]
        assert (low <= found).all()
        assert (found <= high).all()
        moved_ranks |= bool((found != exact).any())
    assert moved_ranks == (bound > 1e-6)


def test_only_ties_widen_a_range():
    scores = torch.tensor([[5.0, 4.0, 2.0, 2.0 + 5e-5, 2.0 - 5e-5, 1.0]])
    low, high = rank_range(scores, (2,), 1e-5)  # ε is 5e-5: two of them may change places
    assert (low.item(), high.item()) == (3, 5)
    low, high = rank_range(scores, (2,), 1e-6)
    assert (low.item(), high.item()) == (4, 4)
    low, high = rank_range(scores / 100, (2,), 1e-5)  # not relative to logits below 1
    assert (low.item(), high.item()) == (3, 5)
    low, high = rank_range(scores / 100, (0,), 1e-5)
    assert (low.item(), high.item()) == (1, 1)
