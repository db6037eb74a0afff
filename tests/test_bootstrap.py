"""Bootstrap intervals, against plain loops, scipy and known distributions."""

import math

import numpy as np
import pytest

from llmscope.bootstrap import bootstrap
from tests.comparing.plain import intervals

COUNTS = np.array([5, 1, 9, 3, 30, 2, 7, 7])


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(3).gamma(0.5, size=COUNTS.sum())


def test_intervals_are_those_of_a_plain_bootstrap_over_texts(values):
    starts = np.concatenate([[0], COUNTS.cumsum()[:-1]])
    sums = {"one": np.add.reduceat(values, starts), "two": np.add.reduceat(-values, starts)}
    found = bootstrap(sums, COUNTS, resamples=300, level=0.9, seed=5)
    assert found["one"] == pytest.approx(intervals(values, COUNTS, 300, 0.9, 5), rel=1e-12)
    assert found["two"] == pytest.approx([-found["one"][1], -found["one"][0]], rel=1e-12)


def test_an_interval_of_many_equal_texts_is_that_of_the_normal_distribution():
    counts = np.full(400, 10)
    values = np.random.default_rng(0).normal(3, 1, 400)
    sums = {"mean": values * 10}
    low, high = bootstrap(sums, counts, resamples=4000, level=0.95, seed=0)["mean"]
    error = values.std() / math.sqrt(400)
    assert [low, high] == pytest.approx(
        [values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.1 * error
    )


def test_one_text_has_no_interval():
    found = bootstrap({"mean": np.ones(1)}, np.ones(1, int), resamples=9, level=0.95, seed=0)
    assert found == {"mean": None}
