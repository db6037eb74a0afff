"""Progress of a batch, as numbers and as text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """The result of a batch.

    Attributes:
        prompts, errors: the prompts, and how many of them failed.
        shards: the number of shards.
        kept: the prompts whose shards already existed.
        refused: how many figures each lens refused, by reason.
        lenses: the lenses that have rows.
    """

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lenses: frozenset[str] = frozenset()


class Pace:
    """A counter of finished prompts that also estimates the rate and the remaining time.

    Args:
        progress: called with the progress as text, at most ten times a second.
        total: how many prompts there are; None if that is unknown.

    Attributes:
        seen: prompts read so far.
        read: the fraction of their source read so far; None if unknown.
    """

    def __init__(self, progress: Tell | None, total: int | None = None) -> None:
        self._progress, self._total = progress, total
        self._refused: dict[str, Counter[str]] = {}
        self._lenses: set[str] = set()
        self._begun = self._told = time.monotonic()
        self.seen = 0
        self.read: float | None = None
        self.prompts = self.errors = self.shards = self.kept = 0
        self._before = 0

    def start(self) -> None:
        """Start the clock; prompts finished before do not count toward the rate."""
        self._begun, self._before = time.monotonic(), self.prompts - self.kept

    def skipped(self, prompts: int, errors: int) -> None:
        """Count a shard that already existed."""
        if self.prompts == self.kept:  # the work has not begun
            self.start()
        self.kept += prompts
        self.shards += 1
        self.prompts += prompts
        self.errors += errors

    def done(self, prompts: int, errors: int) -> None:
        """Count `prompts` more finished prompts, of which `errors` failed."""
        self.prompts += prompts
        self.errors += errors
        now = time.monotonic()
        if self._progress is not None and prompts and now - self._told > 0.1:
            self._told = now
            self._progress(self._words(now - self._begun))

    def found(self, lenses: Iterable[str], refused: Mapping[str, Mapping[str, int]]) -> None:
        """Note what a shard holds.

        Args:
            lenses: the lenses that have rows in it.
            refused: how many figures each lens refused, by reason.
        """
        self._lenses.update(lenses)
        for lens, reasons in refused.items():
            self._refused.setdefault(lens, Counter()).update(reasons)

    def summary(self) -> Summary:
        """Return the result so far."""
        return Summary(
            *(self.prompts, self.errors, self.shards, self.kept),
            refused=self._refused,
            lenses=frozenset(self._lenses),
        )

    def _words(self, seconds: float) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        words = f"{self.prompts:,}{of} prompts"
        rate = (self.prompts - self.kept - self._before) / max(seconds, 1e-9)
        if rate:
            words += f" · {rate:,.1f}/s"
        total = self.seen / self.read if self._total is None and self.read else self._total
        if rate and total is not None and seconds > 1:
            words += f" · {_duration((total - self.prompts) / rate)} left"
        return words + (f" · {self.errors:,} failed" if self.errors else "")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
