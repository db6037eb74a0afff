"""The sampler: what it leaves is what transformers leaves, and what it draws has that share."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

from llmscope.errors import ScopeError
from llmscope.models.sampler import LARGEST_SEED, DrawError, Sampler, draw, left, read_sampler


def theirs(logits: torch.Tensor, sampler: Sampler) -> torch.Tensor:
    """What transformers' `generate` draws from, by its own choice of processors."""
    config = GenerationConfig(
        do_sample=True,
        temperature=sampler.temperature,
        top_k=sampler.top_k,
        top_p=sampler.top_p,
        min_p=sampler.min_p,
    )
    made = GenerationMixin._get_logits_processor(_Model(), config)
    assert isinstance(made, LogitsProcessorList)
    return made(torch.zeros((1, 1), dtype=torch.long), logits[None])[0].softmax(-1)


class _Model(GenerationMixin):
    """What the choice of processors asks of a model."""

    class config:
        is_encoder_decoder = False


def logits_of(seed: int, count: int = 200, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.few(24)
@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 7, 500])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.05, 0.6, 1.0])
def test_what_is_left_is_what_transformers_leaves(temperature, top_k, top_p, min_p):
    sampler = Sampler(temperature, top_k, top_p, min_p)
    for seed in range(3):
        logits = logits_of(seed)
        ours, expected = left(logits, sampler), theirs(logits, sampler)
        assert ours.sum() == pytest.approx(1, abs=1e-6)
        assert torch.allclose(ours, expected, rtol=0, atol=1e-6)
        assert ((ours > 0) == (expected > 0)).all()


def test_of_equal_logits_top_k_leaves_all_as_transformers_does():
    logits = torch.tensor([1.0, 2.0, 2.0, 2.0, 0.0])
    sampler = Sampler(1.0, top_k=2)
    assert left(logits, sampler).tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert torch.allclose(left(logits, sampler), theirs(logits, sampler), atol=1e-6)


@pytest.mark.parametrize(
    "sampler",
    [Sampler(1.0), Sampler(0.6, top_k=4), Sampler(1.3, top_p=0.8), Sampler(1.0, min_p=0.1)],
    ids=lambda one: one.said,
)
def test_what_is_drawn_has_its_share(sampler):
    logits, count = logits_of(5, 12, 1.5), 4000
    share = theirs(logits, sampler)
    drawn = torch.tensor([draw(logits, sampler, place=place) for place in range(count)])
    seen = torch.bincount(drawn, minlength=12).double()
    assert not seen[share == 0].any()
    alive = share > 0
    expected = share[alive].double() * count
    square = float(((seen[alive] - expected) ** 2 / expected).sum())
    free = int(alive.sum()) - 1
    assert square < free + 5 * math.sqrt(2 * free)  # five standard deviations of a chi-square


def test_the_same_place_draws_the_same_and_another_seed_place_or_branch_does_not():
    logits, sampler = torch.zeros(5000), Sampler(1.0, seed=3)
    first = draw(logits, sampler, place=9, branch=1)
    draw(logits, sampler, place=10)
    torch.rand(3)  # torch's own generator has no part in it
    assert draw(logits, sampler, place=9, branch=1) == first
    others = {
        draw(logits, sampler, place=8, branch=1),
        draw(logits, sampler, place=9, branch=2),
        draw(logits, Sampler(1.0, seed=4), place=9, branch=1),
    }
    assert first not in others
    assert len(others) == 3


def test_drawing_leaves_torchs_own_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw(logits_of(0), Sampler(1.0), place=1)
    assert torch.rand(1) == expected


def test_at_temperature_0_it_is_the_likeliest_but_what_other_branches_have():
    logits = torch.tensor([0.0, 3.0, 2.0, 1.0])
    greedy = Sampler()
    assert left(logits, greedy).tolist() == [0, 1, 0, 0]
    assert draw(logits, greedy, place=0) == 1
    assert draw(logits, greedy, place=0, branch=1, tried=(1,)) == 2
    assert draw(logits, greedy, place=0, branch=2, tried=(1, 2)) == 3
    assert draw(logits, greedy, place=0, tried=(0, 1, 2, 3)) == 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("sampler", [Sampler(), Sampler(1.0)], ids=["greedy", "drawn"])
def test_there_is_nothing_to_draw_from_what_is_not_finite(wrong, sampler):
    logits = torch.tensor([0.0, wrong, 1.0])
    with pytest.raises(DrawError):
        draw(logits, sampler, place=0)


def test_a_temperature_near_nothing_is_the_likeliest():
    assert left(torch.tensor([1.0, 90.0, 89.0]), Sampler(1e-44)).tolist() == [0, 1, 0]


SETTINGS = st.builds(
    Sampler,
    temperature=st.floats(0, 100),
    top_k=st.integers(0, 10**6),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    seed=st.integers(0, LARGEST_SEED),
)


@given(SETTINGS, SETTINGS)
def test_what_is_written_is_read_again(sampler, before):
    assert read_sampler(sampler.written, before) == sampler
    flags = " ".join(f"{name}={value}" for name, value in sampler.words)
    assert read_sampler(flags, Sampler()) == sampler


@settings(max_examples=60)
@given(SETTINGS, st.integers(0, 1000))
def test_whatever_the_settings_what_is_drawn_was_left(sampler, seed):
    logits = logits_of(seed, 40)
    share = left(logits, sampler)
    assert float(share.sum()) == pytest.approx(1, abs=1e-5)
    assert share[logits.argmax()] > 0
    assert share[draw(logits, sampler, place=seed)] > 0


@given(st.text(max_size=40))
def test_no_line_is_more_than_an_error(text):
    with suppress(ScopeError):
        assert isinstance(read_sampler(text, Sampler()), Sampler)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("temperature -1", "temperature is 0 or more, not -1.0"),
        ("temperature nan", "temperature is 0 or more, not nan"),
        ("temperature inf", "temperature is 0 or more, not inf"),
        ("top-p 1.5", "top-p is from 0 to 1, not 1.5"),
        ("min_p=2", "min-p is from 0 to 1, not 2.0"),
        ("top-k 2.5", "'2.5' is no whole number for top-k"),
        ("top-k -1", "top-k is 0, which cuts nothing, or more, not -1"),
        ("seed", "seed has no number"),
        ("heat 3", "there is no setting 'heat'"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line, told):
    with pytest.raises(ScopeError) as caught:
        read_sampler(line, Sampler())
    assert caught.value.message == told
