"""Scores, intervals and calibration against scikit-learn, and controls at chance."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.controls import (
    Texts,
    calibration,
    out_of_fold,
    probability,
    score_weighted,
    scores_of,
    shuffle_labels,
    with_random_directions,
    with_shuffled_labels,
)
from llmscope.jobs.fit_direction.estimators import fit_line
from llmscope.jobs.fit_direction.pairs import LabelledText
from tests.jobs.fit_direction.test_estimators import planted


def texts_of(labels, groups=None, paired=False):
    count = len(labels)
    groups = np.arange(count) // 4 if groups is None else groups
    lines = np.arange(count) // 2 if paired else np.arange(count)
    return Texts(labels, np.asarray(groups), lines)


def test_accuracy_and_auc_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.random(60) < 0.5
    scores = np.round(random.standard_normal(60) + labels, 1)  # with ties
    weights = random.integers(0, 4, (7, 60)).astype(float)
    accuracy, auc = score_weighted(scores, labels, weights)
    for at, own in enumerate(weights):
        assert accuracy[at] == pytest.approx(accuracy_score(labels, scores > 0, sample_weight=own))
        assert auc[at] == pytest.approx(roc_auc_score(labels, scores, sample_weight=own))
    nothing = labels.astype(float)[None]
    assert np.isnan(score_weighted(scores, labels, nothing)[1]).all()


def test_intervals_are_of_whole_groups():
    random = np.random.default_rng(1)
    labels = np.arange(400) % 2 == 0
    alone = (random.standard_normal(400) + labels).astype(float)
    fine = scores_of(alone, texts_of(labels), 0).auc
    assert fine.value == pytest.approx(roc_auc_score(labels, alone))
    # Hanley and McNeil's standard error of an AUC of independent scores.
    auc = fine.value
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = ((auc * (1 - auc) + 199 * (q1 - auc**2) + 199 * (q2 - auc**2)) / 200**2) ** 0.5
    assert fine.high - fine.low == pytest.approx(2 * 1.96 * error, rel=0.25)
    # Whole groups are right or wrong: as wide as the standard error of 40 coin throws.
    groups = np.arange(400) // 10
    right = random.random(40)[groups] < 0.7
    grouped = scores_of(np.where(right == labels, 1.0, -1.0), texts_of(labels, groups), 0).accuracy
    share = grouped.value
    assert share == pytest.approx(right.mean())
    error = (share * (1 - share) / 40) ** 0.5
    assert grouped.high - grouped.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    only = scores_of(alone, texts_of(labels, np.zeros(400, dtype=int)), 0).auc
    assert (only.low, only.high) == (None, None)


def test_shuffled_labels_score_chance_and_true_ones_do_not():
    x, labels, _ = planted(400)
    test = np.arange(400) // 4 % 3 == 0
    for paired in (True, False):
        texts = texts_of(labels, paired=paired)
        for method in ("mean", "lda", "logistic"):
            found = with_shuffled_labels(method, x, test, texts, 20, 0)
            assert found.auc.mean == pytest.approx(0.5, abs=0.04)
            assert found.accuracy.mean == pytest.approx(0.5, abs=0.04)
            assert found.auc.low < 0.5 < found.auc.high < 0.7
            line = fit_line(method, x[~test], labels[~test])
            assert roc_auc_score(labels[test], line.score(x[test])) > 0.95


def test_random_directions_are_those_of_numpy():
    x, labels, _ = planted(200)
    test = np.arange(200) // 4 % 3 == 0
    found = with_random_directions(x, test, texts_of(labels), 6, 9)
    random, aucs = np.random.default_rng(9), []
    for _ in range(6):
        direction = random.standard_normal(x.shape[1])
        train = x[~test] @ direction
        sign = np.sign(train[labels[~test]].mean() - train[~labels[~test]].mean())
        aucs.append(roc_auc_score(labels[test], sign * (x[test] @ direction)))
    assert found.auc.mean == pytest.approx(np.mean(aucs))
    assert (found.auc.low, found.auc.high) == pytest.approx((min(aucs), max(aucs)))


def test_the_labels_of_a_pair_change_places_or_stay():
    random = np.random.default_rng(0)
    labels = np.array([True, False] * 50 + [True] * 20 + [False] * 10)
    lines = np.array([at // 2 for at in range(100)] + list(range(100, 130)))
    flips = []
    for _ in range(40):
        own = shuffle_labels(labels, lines, random)
        assert (own[:100:2] != own[1:100:2]).all()
        assert own[100:].sum() == 20
        flips.append((own[:100:2] != labels[:100:2]).mean())
    assert np.mean(flips) == pytest.approx(0.5, abs=0.05)


def test_calibration_is_that_of_scikit_learn_and_of_bins_by_hand():
    random = np.random.default_rng(4)
    chances = random.random(500)
    chances[0] = 1.0
    labels = random.random(500) < chances**2
    found = calibration(chances, labels)
    assert found.brier == pytest.approx(brier_score_loss(labels, chances))
    ece = 0.0
    for low in range(10):
        top = 1.01 if low == 9 else (low + 1) / 10
        own = (chances >= low / 10) & (chances < top)
        ece += own.sum() / 500 * abs(chances[own].mean() - labels[own].mean())
    assert found.ece == pytest.approx(ece)
    assert sum(one.count for one in found.bins) == 500
    assert len(found.bins) == 10


def test_out_of_fold_scores_are_of_lines_without_the_group():
    x, labels, _ = planted(48)
    some = [
        LabelledText(f"{at}", bool(label), f"g{at // 4}", at // 2)
        for at, label in enumerate(labels)
    ]
    found = out_of_fold("mean", x, some, 0)
    groups = np.arange(48) // 4
    for group in range(12):
        own = groups == group
        # The scores of a group are those of one of the lines that leave it out.
        spread = [
            np.abs(fit_line("mean", x[~left], labels[~left]).score(x[own]) - found[own]).max()
            for left in _folds(groups, own, found, x, labels)
        ]
        assert min(spread) < 1e-9
    slope, intercept, loss = probability(found, labels)
    p = 1 / (1 + np.exp(-(slope * found + intercept)))
    assert loss == pytest.approx(-np.log(np.where(labels, p, 1 - p)).mean())
    with pytest.raises(ScopeError, match="too few groups of both labels: 1"):
        out_of_fold("mean", x, [LabelledText("a", bool(one), "g", 1) for one in labels], 0)


def _folds(groups, own, found, x, labels):
    """Yield the sets of 2 and 3 groups with this one: five folds of twelve groups."""
    from itertools import combinations

    (here,) = set(groups[own])
    rest = [one for one in range(12) if one != here]
    for more in (1, 2):
        for others in combinations(rest, more):
            yield np.isin(groups, (here, *others))
