"""Ways to find the direction that tells two classes apart, and the probability along it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.split import Flags
from llmscope.jobs.fit_direction.streams import Floats
from llmscope.learned.lenses.directions import METHOD_NAMES

STEPS = 50
"""Newton steps of the probability, which converges in about ten."""


@dataclass(frozen=True)
class ScoreLine:
    """A direction with the point on it that parts the classes.

    Attributes:
        direction: as long as the means of the classes are apart along it. [width]
        offset: subtracted from `x · d / |d|²`, so that 0 is where it decides.
    """

    direction: Floats
    offset: float

    def score(self, x: Floats) -> Floats:
        """Return the score of each row. `[row, width]` -> [row]"""
        scores: Floats = x @ self.direction / (self.direction @ self.direction) - self.offset
        return scores


def check_method(method: str) -> None:
    """Check that a method can be used.

    Raises:
        ScopeError: it needs scikit-learn, which is missing.
    """
    if method != "mean" and not has_sklearn():
        raise ScopeError(
            f"{METHOD_NAMES[method]} needs scikit-learn",
            f"pip install scikit-learn, or {option('method', 'mean')}",
        )


def has_sklearn() -> bool:
    """Return whether scikit-learn is installed."""
    return find_spec("sklearn") is not None


def fit_line(method: str, x: Floats, labels: Flags) -> ScoreLine:
    """Return the line of a method for rows with labels of both kinds.

    Args:
        method: `mean`: the difference of the classes' means, decided half-way between them; `lda`:
            linear discriminant analysis with Ledoit and Wolf's shrinkage; `logistic`: logistic
            regression on standardised columns, with an L2 penalty of 1.
        x: [row, width]
        labels: [row]

    Raises:
        ScopeError: the rows of both classes are the same.
    """
    if method == "mean":
        return along(x[labels].mean(0) - x[~labels].mean(0), x, labels)
    weight, bias = (_lda if method == "lda" else _logistic)(x, labels)
    return _scale_to_means(weight, x, labels, decides=-bias / float(np.linalg.norm(weight) or 1))


def along(direction: Floats, x: Floats, labels: Flags) -> ScoreLine:
    """Return the line along a direction, turned towards the positive class, decided half-way."""
    gap = float((x[labels].mean(0) - x[~labels].mean(0)) @ direction)
    return _scale_to_means(direction if gap >= 0 else -direction, x, labels)


def _scale_to_means(
    weight: Floats, x: Floats, labels: Flags, decides: float | None = None
) -> ScoreLine:
    """Return the line along a direction, as long as the means of the classes are apart along it.

    Args:
        weight: the direction, of any length. [width]
        x: [row, width]
        labels: [row]
        decides: where it decides, along the unit vector; None: half-way between the means.
    """
    norm = float(np.linalg.norm(weight))
    unit = weight / norm if norm else weight
    ends = [float(x[part].mean(0) @ unit) for part in (~labels, labels)]
    gap = abs(ends[1] - ends[0])
    if not gap > 0:
        raise ScopeError(
            "the streams of both classes are the same",
            f"another {option('position')}, or a later {option('layer')}",
        )
    middle = sum(ends) / 2 if decides is None else decides
    return ScoreLine(unit * gap, middle / gap)


def _lda(x: Floats, labels: Flags) -> tuple[Floats, float]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, labels)
    return model.coef_[0], float(model.intercept_[0])


def _logistic(x: Floats, labels: Flags) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(0), x.std(0)
    scale[scale == 0] = 1
    model = LogisticRegression(max_iter=1000).fit((x - mean) / scale, labels)
    weight = model.coef_[0] / scale
    return weight, float(model.intercept_[0] - weight @ mean)


def platt(scores: Floats, labels: Flags) -> tuple[float, float]:
    """Return slope and intercept of the probability `sigmoid(slope · score + intercept)`.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines": the maximum likelihood, with
    targets a little inside of 0 and 1, so that classes that are far apart have an end.
    """
    positive, negative = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, scale = float(scores.mean()), float(scores.std()) or 1.0
    rows = np.stack([(scores - centre) / scale, np.ones_like(scores)], 1)  # [row, 2]
    weights: Floats = np.zeros(2)
    step: Floats = np.zeros(2)
    loss = np.inf
    for _ in range(STEPS):
        z: Floats = rows @ (weights + step)
        now = float((np.logaddexp(0, z) - targets * z).sum())
        if now > loss:  # a Newton step can go too far
            step *= 0.5
            continue
        done = loss - now < 1e-12 * max(now, 1e-300)
        weights += step
        loss = now
        if done:
            break
        p = sigmoid(z)
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows + 1e-12 * np.eye(2)
        step = np.asarray(np.linalg.solve(hessian, rows.T @ (targets - p)), dtype=np.float64)
    slope = float(weights[0]) / scale
    return slope, float(weights[1]) - slope * centre


def sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + exp(−z))."""
    shares: Floats = np.exp(-np.logaddexp(0, -z))
    return shares
