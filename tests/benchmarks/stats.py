"""Medians, and ratios of what ran in the same round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

Samples = Sequence[float | None]
"""One a round; None: the round did not count."""


@dataclass(frozen=True)
class Measured:
    """A value with the quartiles of what it was made from."""

    value: float
    low: float
    high: float
    count: int


def summary(samples: Samples) -> Measured | None:
    """The median and the quartiles. None if no round counted."""
    known = [sample for sample in samples if sample is not None]
    if not known:
        return None
    low, _, high = quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return Measured(median(known), low, high, len(known))


def ratio(above: Samples, below: Samples) -> Measured | None:
    """Summarize the ratios of the rounds. None if no round counted for both.

    Not the median over the median: a machine whose speed changes has two or three of them, and each
    median may come from another.
    """
    return summary([a / b for a, b in zip(above, below, strict=False) if a is not None and b])
