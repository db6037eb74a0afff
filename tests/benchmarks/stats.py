"""Medians, and ratios of medians with the spread of their pairs."""

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
    """Median over median; the quartiles are of the ratios of the rounds."""
    over, under = summary(above), summary(below)
    pairs = [a / b for a, b in zip(above, below, strict=False) if a is not None and b]
    spread = summary(pairs)
    if over is None or under is None or spread is None or not under.value:
        return None
    return Measured(over.value / under.value, spread.low, spread.high, len(pairs))
