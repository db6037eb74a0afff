"""Directions against numpy and scikit-learn by hand, and a direction that is known."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction import estimators
from llmscope.jobs.fit_direction.estimators import along, fit_line, platt

METHODS = ("mean", "lda", "logistic")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def planted(count=400, width=24, gap=3.0, seed=0):
    """Rows of two classes that are apart along one direction alone, in noise of one size."""
    random = np.random.default_rng(seed)
    truth = random.standard_normal(width)
    truth /= np.linalg.norm(truth)
    labels = np.arange(count) % 2 == 0
    rows = random.standard_normal((count, width)) + 5 + np.outer(labels, truth) * gap
    return rows, labels, truth


@pytest.mark.parametrize("method", METHODS)
def test_a_known_direction_is_found(method):
    x, labels, truth = planted(4000)
    line = fit_line(method, x, labels)
    assert cosine(line.direction, truth) > 0.99
    assert np.linalg.norm(line.direction) == pytest.approx(3, rel=0.05)
    scores = line.score(x)
    assert scores[labels].mean() - scores[~labels].mean() == pytest.approx(1)
    assert abs(scores.mean()) < 0.05
    assert ((scores > 0) == labels).mean() == pytest.approx(0.933, abs=0.02)  # Φ(3 / 2)


def test_the_difference_of_means_is_that_of_numpy():
    x, labels, _ = planted()
    line = fit_line("mean", x, labels)
    first, second = x[labels].mean(0), x[~labels].mean(0)
    assert line.direction == pytest.approx(first - second, abs=1e-12)
    unit = (first - second) / np.linalg.norm(first - second)
    middle = (first + second) / 2 @ unit
    expected = (x @ unit - middle) / np.linalg.norm(first - second)
    assert line.score(x) == pytest.approx(expected, abs=1e-9)


def test_lda_and_logistic_regression_are_those_of_scikit_learn():
    x, labels, _ = planted(120)
    x[:, 3] *= 100  # as outlier dimensions of a stream
    models = {
        "lda": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    }
    for method, model in models.items():
        model.fit(x, labels)
        line = fit_line(method, x, labels)
        ours, theirs = line.score(x), model.decision_function(x)
        assert ((ours > 0) == model.predict(x)).all()
        assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(1, abs=1e-9)
        assert np.polyfit(theirs, ours, 1)[1] == pytest.approx(0, abs=1e-6 * np.ptp(ours))


def test_a_constant_column_and_equal_classes():
    x, labels, _ = planted(60)
    x[:, 0] = 2.0
    assert np.isfinite(fit_line("logistic", x, labels).direction).all()
    with pytest.raises(ScopeError, match="the streams of both classes are the same"):
        fit_line("mean", np.ones((6, 4)), np.arange(6) % 2 == 0)


def test_a_line_turns_towards_the_positive_class():
    x, labels, truth = planted()
    for turned in (truth, -truth):
        line = along(turned, x, labels)
        assert cosine(line.direction, truth) == pytest.approx(1)


@pytest.mark.parametrize("gap", [0.0, 0.5, 3.0, 40.0])
def test_the_probability_is_the_maximum_of_platts_likelihood(gap):
    random = np.random.default_rng(3)
    labels = random.random(80) < 0.4
    scores = random.standard_normal(80) * 0.7 + gap * labels + 11
    positive, negative = labels.sum(), (~labels).sum()
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(ab):
        z = ab[0] * (scores - 11) + ab[1]
        return (np.logaddexp(0, z) - targets * z).sum()

    best = minimize(loss, [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    slope, intercept = platt(scores, labels)
    assert loss((slope, intercept + 11 * slope)) == pytest.approx(best.fun, rel=1e-9)
    assert slope == pytest.approx(best.x[0], rel=1e-3, abs=1e-4)


def test_scores_that_are_all_the_same_give_the_share():
    slope, intercept = platt(np.full(6, 2.0), np.array([1, 1, 1, 1, 0, 0], dtype=bool))
    p = 1 / (1 + np.exp(-(slope * 2 + intercept)))
    assert p == pytest.approx((4 * 5 / 6 + 2 * 1 / 4) / 6, abs=1e-6)


def test_what_needs_scikit_learn_is_refused_without_it(monkeypatch):
    monkeypatch.setattr(estimators, "has_sklearn", lambda: False)
    estimators.check_method("mean")
    with pytest.raises(ScopeError, match="LDA needs scikit-learn") as caught:
        estimators.check_method("lda")
    assert caught.value.hint == 'pip install scikit-learn, or method="mean"'
