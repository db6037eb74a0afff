"""How far a job over many prompts is, as a line of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llmscope.support.numbers import amount

if TYPE_CHECKING:
    from llmscope.corpus.records.record_file import RecordFile

Tell = Callable[[str], None]
PAUSE = 0.1
"""Seconds between two lines of progress at least."""


def ignore(line: str) -> None:
    """Do nothing with a line."""


class JobProgress:
    """Counts the prompts that a job has finished, and tells their rate and the time left.

    Args:
        tell: called with the progress as text; None: it is not told.
        total: how many prompts there are; None if that is unknown.
        doing: what is done with them, such as `fitting`, which begins the text.
        noun: what a prompt is called.
        source: where the prompts are read from, by which their number is estimated; None: nowhere.
        limit: the job ends after this many prompts; None: with the last one.

    Attributes:
        seen: prompts read so far, where they are read ahead.
        prompts, errors: the finished prompts, and those of them that failed.
        kept: the prompts that an earlier run finished.
    """

    def __init__(
        self,
        tell: Tell | None = None,
        total: int | None = None,
        *,
        doing: str = "",
        noun: str = "prompt",
        source: RecordFile | None = None,
        limit: int | None = None,
    ) -> None:
        self._tell, self._total, self._doing, self._noun = tell, total, doing, noun
        self._source, self._limit = source, limit
        self._told = float("-inf")
        self.seen = self.prompts = self.errors = self.kept = 0
        self._clock = Clock()
        self._resumed = False

    def resumed(self, prompts: int, errors: int = 0) -> None:
        """Count prompts that an earlier run finished, of which `errors` failed."""
        self.kept += prompts
        self.prompts += prompts
        self.errors += errors

    def done(self, prompts: int, errors: int = 0, about: str = "") -> None:
        """Count a pass of prompts.

        Args:
            prompts: how many prompts the pass had.
            errors: how many of them failed.
            about: what else is told of the job; empty: nothing.
        """
        self.prompts += prompts
        self.errors += errors
        if prompts > errors:
            self._clock.lap(self.prompts - self.kept)
        now = time.monotonic()
        if self._tell is not None and prompts and now - self._told >= PAUSE:
            self._told = now
            self._tell(self._words(about))

    def stage(self, words: str, share: float | None = None) -> None:
        """Tell what is done beside the prompts, or after them.

        Args:
            words: what is done.
            share: the share of it that is done, from 0 to 1; None if that is unknown.
        """
        if self._tell is not None:
            count = amount(self.prompts, self._noun) if self.prompts else ""
            done = "" if share is None else f"{share:.0%}"
            self._tell(" · ".join(filter(None, (count, words, done))))

    def going_on(self, note: Tell, prompts: int = 0, *, more: str = "") -> None:
        """Note once where a run goes on that was stopped, before its first pass.

        Args:
            note: called with a line.
            prompts: prompts that an earlier run finished, and that are not counted yet.
            more: what follows in the line.
        """
        if not self._resumed and self.kept + prompts:
            note(f"going on behind {amount(self.kept + prompts, f'finished {self._noun}')}{more}")
        self._resumed = True

    @contextmanager
    def noted_if_stopped(
        self, note: Tell, where: str = "", count_kept: Callable[[], int] | None = None
    ) -> Iterator[None]:
        """Note in a line how many prompts are kept if the job is stopped, by a signal or an error.

        Args:
            note: called with the line.
            where: what follows their number, such as ` in FOLDER`.
            count_kept: returns how many are kept; None: all that are finished.
        """
        try:
            yield
        except BaseException:
            count = self.prompts if count_kept is None else count_kept()
            if count:
                words = f"stopped: kept {self._count(count)}{where}"
                note(f"{words}; the same command goes on from there")
            raise

    @property
    def rate(self) -> float:
        """Prompts of this run a second; 0 before the end of its second pass."""
        return self._clock.rate

    def _words(self, about: str) -> str:
        words = [self._doing, self._count(self.prompts), about]
        rate, total = self.rate, self._estimate_total()
        if rate:
            words.append(f"{rate:,.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s a {self._noun}")
        if rate and total is not None and total > self.prompts:
            words.append(f"{duration((total - self.prompts) / rate)} left")
        words.append(f"{self.errors:,} failed" if self.errors else "")
        return " · ".join(filter(None, words))

    def _count(self, prompts: int) -> str:
        if self._total is None:
            return amount(prompts, self._noun)
        return f"{prompts:,} of {amount(self._total, self._noun)}"

    def _estimate_total(self) -> float | None:
        """Return how many prompts there will be; None if that is unknown."""
        if self._total is not None:
            return self._total
        read = self._source.read if self._source is not None else None
        whole = max(self.seen, self.prompts) / read if read else None
        if self._limit is None or whole is None:
            return self._limit if whole is None else whole
        return min(whole, self._limit)


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


def duration(seconds: float) -> str:
    """Return a length of time as text, such as `12 s` or `3 min`."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
