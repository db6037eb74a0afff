"""Progress of a batch, as numbers and as text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """The result of a batch. `kept` counts the prompts whose shards already existed."""

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0


class Pace:
    """A counter of finished prompts that also estimates the rate and the remaining time.

    Args:
        progress: called with the progress as text, at most ten times a second.

    Attributes:
        seen: prompts read so far.
        read: the fraction of their source read so far; None if unknown.
    """

    def __init__(self, progress: Tell | None) -> None:
        self._progress = progress
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

    def summary(self) -> Summary:
        """Return the result so far."""
        return Summary(self.prompts, self.errors, self.shards, self.kept)

    def _words(self, seconds: float) -> str:
        words = f"{self.prompts:,} prompts"
        rate = (self.prompts - self.kept - self._before) / max(seconds, 1e-9)
        if rate:
            words += f" · {rate:,.1f}/s"
        if rate and self.read and seconds > 1:
            words += f" · {_duration((self.seen / self.read - self.prompts) / rate)} left"
        return words + (f" · {self.errors:,} failed" if self.errors else "")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
