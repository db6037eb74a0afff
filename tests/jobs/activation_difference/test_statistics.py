"""Consistency over texts and distance from noise, against numpy and against what chance gives."""

import math

import numpy as np
import pytest
import torch

from llmscope.jobs.activation_difference.statistics import (
    CONTROLS,
    DRAWS,
    ONE_SIDED,
    QUANTILE,
    TWO_SIDED,
    chance,
    margin,
    split_half,
)

RANDOM = np.random.default_rng(3)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_split_half_is_the_cosine_of_the_means_of_two_halves():
    given = RANDOM.normal(size=(7, 2, 3, 5))
    found = split_half(torch.tensor(given))
    for layer in range(2):
        for token in range(3):
            own = given[:, layer, token]
            expected = cosine(own[::2].mean(0), own[1::2].mean(0))
            assert float(found[layer, token]) == pytest.approx(expected, abs=1e-12)


def test_one_vector_in_all_texts_is_beyond_chance():
    given = torch.tensor(RANDOM.normal(size=(1, 2, 3, 6))).expand(40, -1, -1, -1)
    assert torch.allclose(split_half(given), torch.ones(2, 3, dtype=given.dtype))
    assert bool((chance(given) < 0.2).all())


def test_chance_is_the_quantile_under_random_signs():
    given = RANDOM.normal(size=(8, 2, 1, 6))
    signs = torch.randint(2, (DRAWS, 8), generator=torch.Generator().manual_seed(4)).numpy() * 2 - 1
    found = chance(torch.tensor(given), seed=4)
    for layer in range(2):
        products = []
        for draw in signs:
            own = given[:, layer, 0] * draw[:, None]
            products.append(own[::2].mean(0) @ own[1::2].mean(0))
        norms = [np.linalg.norm(given[start::2, layer, 0].mean(0)) for start in (0, 1)]
        expected = np.quantile(products, QUANTILE) / (norms[0] * norms[1])
        assert float(found[layer, 0]) == pytest.approx(expected, abs=1e-12)


def test_a_difference_without_a_common_direction_is_within_chance():
    given = torch.tensor(RANDOM.normal(size=(40, 50, 4, 16)))
    assert float((split_half(given) > chance(given)).float().mean()) < 0.04
    moved = given + 2 * torch.tensor(RANDOM.normal(size=(1, 50, 4, 16)))
    assert bool((split_half(moved) > chance(moved)).all())


def test_margin_is_that_of_prediction_intervals():
    ours, controls = RANDOM.normal(size=9), RANDOM.normal(size=(CONTROLS, 9)) + 1
    norms = np.log(np.linalg.norm(controls, axis=1))
    widen = (1 + 1 / CONTROLS) ** 0.5
    by_norm = abs(np.log(np.linalg.norm(ours)) - norms.mean()) / (
        TWO_SIDED * norms.std(ddof=1) * widen
    )
    units = controls / np.linalg.norm(controls, axis=1, keepdims=True)
    among = np.array(
        [np.linalg.norm(units[at] - np.delete(units, at, axis=0).mean(0)) for at in range(CONTROLS)]
    )
    far = np.linalg.norm(ours / np.linalg.norm(ours) - units.mean(0))
    by_direction = far / (among.mean() + ONE_SIDED * among.std(ddof=1) * widen)
    found = float(margin(torch.tensor(ours), torch.tensor(controls)))
    assert found == pytest.approx(max(by_norm, by_direction), rel=1e-9)


@pytest.mark.parametrize("common", [0.0, 3.0])
def test_noise_is_beyond_the_limit_about_once_in_a_hundred(common):
    drawn = torch.tensor(RANDOM.normal(size=(CONTROLS + 1, 4000, 32))) + common
    assert float((margin(drawn[0], drawn[1:]) > 1).float().mean()) < 0.03
    assert bool((margin(drawn[0] * 8, drawn[1:]) > 1).all())  # longer
    assert float((margin(drawn[0] / 8, drawn[1:]) > 1).float().mean()) > 0.97  # shorter
    if common:
        assert float((margin(-drawn[0], drawn[1:]) > 1).float().mean()) > 0.97  # elsewhere


@pytest.mark.parametrize(("quantile", "share"), [(ONE_SIDED, 0.99), (TWO_SIDED, 0.995)])
def test_the_quantiles_are_those_of_student(quantile, share):
    freedom = CONTROLS - 1
    at = np.linspace(0, quantile, 200_001)
    density = (1 + at**2 / freedom) ** (-(freedom + 1) / 2)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / (math.pi * freedom) ** 0.5
    assert 0.5 + scale * np.trapezoid(density, at) == pytest.approx(share, abs=1e-7)
