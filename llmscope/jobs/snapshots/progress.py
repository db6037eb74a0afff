"""Progress of a batch, as numbers and as text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from llmscope.support.numbers import amount

Tell = Callable[[str], None]


def ignore(line: str) -> None:
    """Do nothing with a line."""


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
        self._told = time.monotonic()
        self.seen = 0
        self.read: float | None = None
        self.prompts = self.errors = self.shards = self.kept = 0
        self._clock = Clock()
        self._resumed = False

    def skipped(self, prompts: int, errors: int) -> None:
        """Count a shard that already existed."""
        self.shards += 1
        self.resumed(prompts, errors)

    def resumed(self, prompts: int, errors: int) -> None:
        """Count prompts that an earlier run finished, of which `errors` failed."""
        self.kept += prompts
        self.prompts += prompts
        self.errors += errors

    def going_on(self, prompts: int, shown: str, note: Tell) -> None:
        """Note once where a run goes on that was stopped, before its first pass.

        Args:
            prompts: the prompts of this shard that an earlier run finished.
            shown: the folder, safe to print.
            note: called with a line.
        """
        if self._resumed:
            return
        self._resumed = True
        if self.kept + prompts:
            note(f"going on behind {amount(self.kept + prompts, 'finished prompt')} in {shown}")

    def done(self, prompts: int, errors: int) -> None:
        """Count a pass of `prompts` prompts, of which `errors` failed."""
        self.prompts += prompts
        self.errors += errors
        if prompts > errors:
            self._clock.lap(self.prompts - self.kept)
        now = time.monotonic()
        if self._progress is not None and prompts and now - self._told > 0.1:
            self._told = now
            self._progress(self._words())

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

    @property
    def rate(self) -> float:
        """Prompts of this run a second; 0 before the end of its second pass."""
        return self._clock.rate

    def _words(self) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        words = f"{self.prompts:,}{of} prompts"
        rate = self.rate
        if rate:
            words += f" · {rate:,.1f}/s"
        total = self.seen / self.read if self._total is None and self.read else self._total
        if rate and total is not None:
            words += f" · {duration((total - self.prompts) / rate)} left"
        return words + (f" · {self.errors:,} failed" if self.errors else "")


class Clock:
    """The rate of a job: how many units it finishes a second.

    It counts from the end of the first lap on: that one also has what happens once, such as
    checking the model.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def lap(self, units: float) -> None:
        """Note the time at which `units` are finished in all."""
        self._last = time.monotonic(), units
        self._first = self._first or self._last

    @property
    def rate(self) -> float:
        """Units a second; 0 before the end of the second lap."""
        (begun, before), (now, units) = self._first or self._last, self._last
        return (units - before) / max(now - begun, 1e-9)


@contextmanager
def kept_if_stopped(kept: Callable[[], str], note: Tell) -> Iterator[None]:
    """Note in a line what a job keeps if it is stopped, by a signal or an error.

    Args:
        kept: returns what is finished and where, such as `kept 3 of 9 prompts in out`; empty
            if nothing is.
        note: called with the line.
    """
    try:
        yield
    except BaseException:
        words = kept()
        if words:
            note(f"stopped: {words}; the same command goes on from there")
        raise


def duration(seconds: float) -> str:
    """Return a length of time as text, such as `12 s` or `3 min`."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
