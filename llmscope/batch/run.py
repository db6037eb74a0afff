"""The batch itself: a window of prompts at a time, which becomes a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from llmscope.batch.folder import Folder, Part
from llmscope.batch.looking import Looking
from llmscope.batch.padded import Together
from llmscope.batch.prompts import Line, Source
from llmscope.batch.shards import shard_files
from llmscope.batch.work import rows_of

if TYPE_CHECKING:
    from llmscope.scope import Scope

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What came of a batch. `kept`: prompts whose shards were there already."""

    prompts: int = 0
    errors: int = 0
    shards: int = 0
    kept: int = 0


def run(
    scope: Scope,
    source: Source,
    looking: Looking,
    folder: Folder,
    *,
    together: Together | None = None,
    tell: Tell,
    progress: Tell | None = None,
) -> Summary:
    """Look at each prompt of the folder's part, and write what is not there yet.

    A window of prompts is held at a time, so memory does not grow with their number.

    Args:
        together: how prompts go through the model together; None: one by one.
        tell: called with one line on each prompt that cannot be looked at.
        progress: called with how far it is, in words.

    Raises:
        ScopeError: the prompts cannot be read, or the shards not be written.
    """
    pace = _Pace(source, progress)
    for number, window in enumerate(_windows(source, folder.part)):
        pace.seen += len(window)
        errors = folder.errors(number, window)
        if errors is not None:
            pace.skipped(len(window), errors)
            continue
        rows = rows_of(scope, window, looking, together, pace.done)
        for row in rows:
            if row.error:
                tell(f"line {row.line.number}: {row.error}")
        folder.put(shard_files(folder.name(number), rows))
        pace.shards += 1
    folder.finish(pace.shards, pace.prompts, pace.errors)
    return Summary(pace.prompts, pace.errors, pace.shards, pace.kept)


def _windows(source: Iterable[Line], part: Part) -> Iterator[list[Line]]:
    lines = islice(source, part.index, None, part.count)
    while window := list(islice(lines, part.size)):
        yield window


class _Pace:
    """How many prompts are through, how fast, and how long the rest takes."""

    def __init__(self, source: Source, progress: Tell | None) -> None:
        self._source, self._progress = source, progress
        self._begun = self._told = time.monotonic()
        self.seen = 0  # prompts that were read
        self.prompts = self.errors = self.shards = self.kept = 0

    def skipped(self, prompts: int, errors: int) -> None:
        """A shard was there."""
        self.kept += prompts
        self.shards += 1
        self.prompts += prompts
        self.errors += errors
        self._begun = time.monotonic()

    def done(self, prompts: int, errors: int) -> None:
        """More prompts are through."""
        self.prompts += prompts
        self.errors += errors
        now = time.monotonic()
        if self._progress is not None and prompts and now - self._told > 0.1:
            self._told = now
            self._progress(self._words(now - self._begun))

    def _words(self, seconds: float) -> str:
        rate = (self.prompts - self.kept) / max(seconds, 1e-9)
        words = f"{self.prompts:,} prompts · {rate:,.1f}/s"
        read = self._source.read
        if read and seconds > 1:
            words += f" · {_duration((self.seen / read - self.prompts) / rate)} left"
        return words + (f" · {self.errors:,} failed" if self.errors else "")


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
