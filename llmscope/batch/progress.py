"""How far a batch is, in numbers and in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What came of a batch. `kept`: prompts whose shards were there already."""

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0


class Pace:
    """How many prompts are through, how fast, and how long the rest takes.

    Args:
        progress: called with all that in words, ten times a second at most.

    Attributes:
        seen: prompts that were read.
        read: how much of their source that is, from 0 to 1; None where nobody knows.
    """

    def __init__(self, progress: Tell | None) -> None:
        self._progress = progress
        self._begun = self._told = time.monotonic()
        self.seen = 0
        self.read: float | None = None
        self.prompts = self.errors = self.shards = self.kept = 0
        self._before = 0

    def start(self) -> None:
        """The clock starts now; prompts that are through already say nothing of how fast it is."""
        self._begun, self._before = time.monotonic(), self.prompts - self.kept

    def skipped(self, prompts: int, errors: int) -> None:
        """A shard was there."""
        if self.prompts == self.kept:  # the work has not begun
            self.start()
        self.kept += prompts
        self.shards += 1
        self.prompts += prompts
        self.errors += errors

    def done(self, prompts: int, errors: int) -> None:
        """More prompts are through."""
        self.prompts += prompts
        self.errors += errors
        now = time.monotonic()
        if self._progress is not None and prompts and now - self._told > 0.1:
            self._told = now
            self._progress(self._words(now - self._begun))

    def summary(self) -> Summary:
        """What came of it so far."""
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
