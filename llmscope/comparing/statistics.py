"""Statistics of a comparison: quantiles, and bootstrap intervals over texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float] | None
"""The ends of an interval; None where one text alone tells nothing of the spread."""


def bootstrap(
    sums: Mapping[str, Floats],
    counts: NDArray[np.int64],
    *,
    resamples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Return percentile intervals of means per token, from texts drawn with replacement.

    Tokens of one text are not independent, so whole texts are drawn. All means are of the same
    draws, and both models of the same texts: a difference is paired.

    Args:
        sums: the sum over the tokens of each text, by name. [text]
        counts: the tokens of each text. [text]
        resamples: how often as many texts are drawn as there are.
        level: the share of the draws that an interval holds.
        seed: of the random numbers.
    """
    texts = len(counts)
    if texts < 2:
        return dict.fromkeys(sums)
    drawn = {name: np.empty(resamples) for name in sums}
    random = np.random.default_rng(seed)
    for at in range(resamples):
        some = random.integers(texts, size=texts)
        tokens = counts[some].sum()
        for name, values in sums.items():
            drawn[name][at] = values[some].sum() / tokens
    tail = (1 - level) / 2
    found: dict[str, Interval] = {}
    for name, means in drawn.items():
        low, high = np.quantile(means, [tail, 1 - tail])
        found[name] = float(low), float(high)
    return found
