"""Bootstrap intervals, against plain loops, scipy and known distributions."""

import math

import numpy as np
import pytest
from scipy import stats

from llmscope.support.bootstrap import BLOCK, ClusteredMeans, Draws, bootstrap
from tests.jobs.compare.plain import intervals

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


def test_an_interval_is_that_of_scipy():
    values = np.random.default_rng(1).gamma(2, size=120)
    low, high = bootstrap({"mean": values}, np.ones(120, int), resamples=9999, level=0.9, seed=0)[
        "mean"
    ]
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, method="percentile", random_state=0
    ).confidence_interval
    width = theirs.high - theirs.low
    assert [low, high] == pytest.approx([theirs.low, theirs.high], abs=0.03 * width)


def test_many_clusters_are_drawn_as_often_as_there_are(monkeypatch):
    draws = Draws(3 * BLOCK + 7, resamples=300, seed=4)
    weights = np.concatenate([draws.weights(block) for block in range(4)], axis=1)
    assert weights.shape == (300, 3 * BLOCK + 7)
    assert (weights.sum(1) == weights.shape[1]).all()
    # Counts of a multinomial draw: mean 1, variance 1 − 1/n, covariance −1/n.
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1, abs=0.02)
    halves = weights[:, : 2 * BLOCK].sum(1)
    share = 2 * BLOCK / weights.shape[1]
    assert halves.var() == pytest.approx(weights.shape[1] * share * (1 - share), rel=0.25)


def test_groups_are_means_of_the_same_draws_whatever_order_their_rows_come_in():
    random = np.random.default_rng(6)
    clusters, rows = 2 * BLOCK + 100, 6000
    cluster = np.sort(random.integers(clusters, size=rows))
    group, values = random.integers(3, size=rows), random.normal(size=rows)
    values[::7] = np.nan
    draws = Draws(clusters, resamples=50, seed=2)
    weights = np.concatenate([draws.weights(block) for block in range(3)], axis=1)
    sums = ClusteredMeans(draws)
    for part in np.array_split(np.arange(clusters), 5)[::-1]:
        inside = np.isin(cluster, part)
        sums.add(cluster[inside], group[inside], values[inside])
    found = sums.means()
    for which in range(3):
        here = (group == which) & ~np.isnan(values)
        assert found.mean[which] == pytest.approx(values[here].mean(), rel=1e-12)
        assert found.rows[which] == here.sum()
        assert found.clusters[which] == len(set(cluster[here]))
        by_hand = [np.average(values[here], weights=each[cluster[here]]) for each in weights]
        assert found.drawn[:, which] == pytest.approx(by_hand, rel=1e-9)
        low, high = found.intervals(0.8)
        assert [low[which], high[which]] == pytest.approx(np.quantile(by_hand, [0.1, 0.9]))


def test_a_group_in_one_cluster_has_no_interval():
    sums = ClusteredMeans(Draws(9, resamples=40, seed=0), studentized=True)
    sums.add(np.array([2, 2, 3]), np.array([0, 0, 1]), np.array([1.0, 3.0, 5.0]))
    sums.add(np.array([4, 5]), np.array([1, -1]), np.array([7.0, 9.0]))
    found = sums.means()
    assert found.mean.tolist() == [2, 6]
    assert found.clusters.tolist() == [1, 2]
    low, high = found.intervals(0.95)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] == 5
    assert high[1] == 7
    assert not found.nonzero(0.95)[0]


def test_the_correction_is_max_t():
    random = np.random.default_rng(8)
    clusters, groups = 80, 12
    values = random.normal(size=(clusters, groups)) + np.r_[1.0, 0.35, np.zeros(groups - 2)]
    draws = Draws(clusters, resamples=500, seed=1)
    sums = ClusteredMeans(draws, studentized=True)
    at = np.indices(values.shape).reshape(2, -1)
    sums.add(at[0], at[1], values.reshape(-1))
    found = sums.means()

    def t(x, around):  # of a mean of equal clusters
        return (x.mean(0) - around) / (x.std(0, ddof=1) / np.sqrt(clusters))

    mean = values.mean(0)
    resamples = [np.repeat(values, one.astype(int), axis=0) for one in draws.weights(0)]
    largest = [np.abs(t(one, mean)).max() for one in resamples]
    assert np.abs(found.drawn_t).max(1) * np.sqrt((clusters - 1) / clusters) == pytest.approx(
        largest
    )
    expected = np.abs(t(values, 0)) > np.quantile(largest, 0.95, method="higher")
    assert found.nonzero(0.95).tolist() == expected.tolist()
    assert found.nonzero(0.95)[0]


@pytest.mark.slow
def test_intervals_cover_and_corrected_ones_mark_nothing_where_nothing_is():
    """Clusters of unequal sizes with effects of their own: 300 data sets, 40 groups of zeros."""
    random = np.random.default_rng(21)
    covered, marked, trials, groups, clusters = 0, 0, 300, 40, 100
    for trial in range(trials):
        counts = random.integers(1, 9, clusters)
        cluster = np.repeat(np.arange(clusters), counts)
        own = random.normal(size=(clusters, groups))
        values = own[cluster] + random.normal(size=(len(cluster), groups))
        sums = ClusteredMeans(Draws(clusters, resamples=400, seed=trial), studentized=True)
        at = np.indices(values.shape)
        sums.add(cluster[at[0]].reshape(-1), at[1].reshape(-1), values.reshape(-1))
        found = sums.means()
        low, high = found.intervals(0.95)
        covered += int(((low <= 0) & (high >= 0)).sum())
        marked += bool(found.nonzero(0.95).any())
    # The percentile interval of 100 clusters is a little short: 93 to 95 %.
    assert 0.925 <= covered / trials / groups <= 0.96
    assert 0.01 <= marked / trials <= 0.07
