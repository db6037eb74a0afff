"""How well a line tells held-out texts apart, beside shuffled labels and random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.jobs.fit_direction.estimators import ScoreLine, along, fit_line, platt, sigmoid
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.fit_direction.split import Flags, dealt, labels_of
from llmscope.jobs.fit_direction.streams import Floats
from llmscope.learned.lenses.directions import (
    Calibration,
    CalibrationBin,
    ControlScores,
    Interval,
    ProbeScores,
    Spread,
)

DRAWS, LEVEL = 2000, 0.95
"""Draws of groups for a bootstrap interval, and the share of them that it holds."""
FOLDS = 5
"""Parts of the training groups, of which each is scored by a line that was fitted on the others."""
BINS = 10
BLOCK = 1 << 22
"""Weights that are looked at at once."""


@dataclass(frozen=True)
class Texts:
    """Texts as numbers.

    Attributes:
        labels: [text]
        groups: the index of the group of each. [text]
        lines: the line of the file of each; both texts of a pair have the same. [text]
    """

    labels: Flags
    groups: NDArray[np.int64]
    lines: NDArray[np.int64]

    @classmethod
    def of(cls, examples: Sequence[LabelledText]) -> Texts:
        """Return the texts of examples."""
        groups = {
            name: at for at, name in enumerate(dict.fromkeys(example.group for example in examples))
        }
        return cls(
            labels_of(examples),
            np.array([groups[example.group] for example in examples]),
            np.array([example.line for example in examples]),
        )


def scores_of(scores: Floats, texts: Texts, seed: int) -> ProbeScores:
    """Return accuracy and AUC of scores, with bootstrap intervals over groups. [text]"""
    labels, groups = texts.labels, np.unique(texts.groups, return_inverse=True)[1]
    once = np.ones((1, len(labels)))
    values = [float(draws[0]) for draws in score_weighted(scores, labels, once)]
    count = int(groups.max()) + 1
    if count < 2:
        return ProbeScores(*(Interval(value, None, None) for value in values))
    random = np.random.default_rng(seed)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=DRAWS)  # [draw, group]
    size = max(1, BLOCK // len(scores))
    parts = [
        score_weighted(scores, labels, drawn[start : start + size][:, groups].astype(np.float64))
        for start in range(0, DRAWS, size)
    ]
    drawn_scores = [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]
    tail = (1 - LEVEL) / 2
    ends = [np.nanquantile(draws, (tail, 1 - tail)) for draws in drawn_scores]
    return ProbeScores(
        *(
            Interval(value, float(low), float(high))
            for value, (low, high) in zip(values, ends, strict=True)
        )
    )


def score_weighted(scores: Floats, labels: Flags, weights: Floats) -> tuple[Floats, Floats]:
    """Return accuracy and AUC for weights of the texts. [draw]; NaN without one of the classes

    The AUC is the share of pairs of a positive and a negative text in which the positive one has
    the higher score, ties counted half.

    Args:
        scores: [text]
        labels: [text]
        weights: [draw, text]
    """
    right = (scores > 0) == labels
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(scores[order], return_index=True)  # where each level begins

    def by_level(weights: Floats) -> Floats:
        """Return the weights summed over texts of one score. `[draw, text]` -> [draw, level]"""
        sums: Floats = np.add.reduceat(weights[:, order], first, axis=1)
        return sums

    ahead, behind = by_level(weights * labels), by_level(weights * ~labels)
    lower = behind.cumsum(1) - behind / 2
    with np.errstate(invalid="ignore"):
        auc = (ahead * lower).sum(1) / (ahead.sum(1) * behind.sum(1))
    return weights @ right / weights.sum(1), auc


def out_of_fold(method: str, x: Floats, examples: Sequence[LabelledText], seed: int) -> Floats:
    """Return the score of each training text by a line that was fitted without its group. [text]

    Raises:
        ScopeError: there are too few groups of both labels.
    """
    labels = labels_of(examples)
    order = dealt([example.group for example in examples], labels, seed)
    folds = min(FOLDS, len(order))
    fold_of = {name: at % folds for at, name in enumerate(order)}
    of_text = np.array([fold_of[example.group] for example in examples])
    scores = np.empty(len(labels))
    for fold in range(folds):
        in_fold = of_text == fold
        if folds < 2 or len(np.unique(labels[~in_fold])) < 2:
            raise ScopeError(
                f"the training set has too few groups of both labels: {len(order)}",
                f"more groups, or a smaller {option('test-share')}",
            )
        scores[in_fold] = fit_line(method, x[~in_fold], labels[~in_fold]).score(x[in_fold])
    return scores


def probability(scores: Floats, labels: Flags) -> tuple[float, float, float]:
    """Return slope and intercept of the probability, and its mean log-loss on the same scores."""
    slope, intercept = platt(scores, labels)
    signs = np.where(labels, 1.0, -1.0)
    loss = float(np.logaddexp(0, -signs * (slope * scores + intercept)).mean())
    return slope, intercept, loss


def calibration(chances: Floats, labels: Flags) -> Calibration:
    """Return how far probabilities of the positive class can be taken at their word. [text]"""
    at = np.minimum((chances * BINS).astype(int), BINS - 1)
    bins = [
        CalibrationBin(
            float(chances[in_bin].mean()), float(labels[in_bin].mean()), int(in_bin.sum())
        )
        for in_bin in (at == number for number in range(BINS))
        if in_bin.any()
    ]
    ece = sum(chance.count * abs(chance.predicted - chance.positive) for chance in bins) / len(
        labels
    )
    return Calibration(float(((chances - labels) ** 2).mean()), float(ece), tuple(bins))


def chances_of(line: ScoreLine, slope: float, intercept: float, x: Floats) -> Floats:
    """Return the probability of the positive class of each row. [row]"""
    return sigmoid(slope * line.score(x) + intercept)


def shuffle_labels(labels: Flags, lines: NDArray[np.int64], random: np.random.Generator) -> Flags:
    """Return shuffled labels: those of a pair change places or not, the others are permuted."""
    changed = labels.copy()
    of_pair: dict[int, list[int]] = {}
    for at, line in enumerate(lines.tolist()):
        of_pair.setdefault(line, []).append(at)
    for pair in of_pair.values():
        if len(pair) > 1 and random.integers(2):
            changed[pair] = ~changed[pair]
    alone = [pair[0] for pair in of_pair.values() if len(pair) == 1]
    changed[alone] = random.permutation(changed[alone])
    return changed


def with_shuffled_labels(
    method: str, x: Floats, test: Flags, texts: Texts, draws: int, seed: int
) -> ControlScores:
    """Return the scores of lines fitted and measured with shuffled labels."""
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        labels = texts.labels.copy()
        for part in (test, ~test):
            labels[part] = shuffle_labels(texts.labels[part], texts.lines[part], random)
        line = fit_line(method, x[~test], labels[~test])
        scores.append(_once(line.score(x[test]), labels[test]))
    return _spread(scores)


def with_random_directions(
    x: Floats, test: Flags, texts: Texts, draws: int, seed: int
) -> ControlScores:
    """Return the scores of random directions, turned and placed by the training texts."""
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(draws):
        drawn: Floats = random.standard_normal(x.shape[1:])
        line = along(drawn, x[~test], texts.labels[~test])
        scores.append(_once(line.score(x[test]), texts.labels[test]))
    return _spread(scores)


def _once(scores: Floats, labels: Flags) -> tuple[float, float]:
    accuracy, auc = score_weighted(scores, labels, np.ones((1, len(labels))))
    return float(accuracy[0]), float(auc[0])


def _spread(scores: Sequence[tuple[float, float]]) -> ControlScores:
    return ControlScores(
        *(
            Spread(float(np.mean(values)), float(min(values)), float(max(values)))
            for values in zip(*scores, strict=True)
        )
    )
