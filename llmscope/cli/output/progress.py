"""The progress line on stderr: rewritten on a terminal, elsewhere a new line now and then.

With --verbose each stage has a line of its own with its time, with --quiet nothing is written.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TextIO

from llmscope.cli.output.notices import detail, tell, volume
from llmscope.models.loaded_model import Progress
from llmscope.support.text import display_text

EVERY = 30.0
"""Seconds between the lines of a long command without a terminal."""
LONG = 10.0
"""Seconds from which on it is told what a lens takes."""
_START = "\r\x1b[K"
_NUMBERS = re.compile(r"[\d,.]+")


@contextmanager
def progress_line(
    stream: TextIO | None = None, *, every: float | None = None
) -> Iterator[Progress | None]:
    """Yield a callback that rewrites one line, erased at the end.

    Args:
        stream: where it is written; None: stderr.
        every: seconds between the lines without a terminal; None: there is no callback then.
    """
    stream = stream or sys.stderr
    if volume.quiet:
        yield None
        return
    if volume.verbose:
        stages = _Stages()
        try:
            yield stages
        finally:
            stages.end()
        return
    if not stream.isatty():
        yield None if every is None else _Lines(stream, every)
        return
    line = _Line(stream)
    try:
        yield line
    finally:
        stream.write(_START)
        stream.flush()


def noted(progress: Progress | None) -> Callable[[str], None]:
    """Return a function that writes a note to stderr, on a line of its own.

    Args:
        progress: the callback of `progress_line`.
    """

    def note(line: str) -> None:
        if progress is not None:
            progress("", 0, None)
        tell(line)

    return note


class StepsLine:
    """Tells how far a lens of many passes is, and once, early, what it takes if that is long.

    Args:
        progress: the callback of `progress_line`.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._note = progress, noted(progress)
        self._lens = ""
        self._told = False

    def __call__(self, lens: str, done: int, total: int) -> None:
        """Tell that some steps of a lens are done."""
        from llmscope.corpus.progress import Clock, duration

        if lens != self._lens:
            self._lens, self._told, self._clock = lens, False, Clock()
        self._clock.lap(done)
        words, rate = f"{lens} · step {done:,} of {total:,}", self._clock.rate
        if rate > 0:
            seconds = (total - done) / rate
            words += f" · {duration(seconds)} left"
            if seconds > LONG and not self._told:
                self._note(f"{lens} takes {total:,} steps, about {duration(seconds)}")
            self._told = True
        if self._progress is not None:
            self._progress(words, 0.0, None)


class _Line:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stage = ""
        self._begun = 0.0

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun = stage, now
        text = display_text(f"{stage}{amount(done, total, now - self._begun)}")
        columns = get_terminal_size().columns
        self._stream.write(_START + text[: columns - 1])
        self._stream.flush()


class _Stages:
    """A line for each stage when it has ended, with its last words and its time."""

    def __init__(self) -> None:
        self._words = self._kind = ""
        self._begun = time.monotonic()

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        # Words of one stage differ in their numbers: "reading · 3 prompts", "reading · 4 prompts".
        kind = _NUMBERS.sub("", stage.partition(" · ")[0])
        if kind != self._kind:
            self.end()
            self._kind, self._begun = kind, time.monotonic()
        self._words = f"{stage}{amount(done, total, 0)}"

    def end(self) -> None:
        """Print the stage that has ended, if any."""
        if self._words:
            detail(f"{self._words}: {time.monotonic() - self._begun:.2f} s")
        self._words = self._kind = ""


class _Lines:
    """A new line every `every` seconds."""

    def __init__(self, stream: TextIO, every: float) -> None:
        self._stream, self._every = stream, every
        self._told = self._begun = time.monotonic()
        self._stage = ""

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        now = time.monotonic()
        if stage and done and stage != self._stage:  # its rate counts from here
            self._stage, self._begun = stage, now
        if not stage or now - self._told < self._every:
            return
        self._told = now
        text = display_text(f"{stage}{amount(done, total, now - self._begun)}")
        self._stream.write(f"note: {text}\n")
        self._stream.flush()


def amount(done: float, total: float | None, seconds: float) -> str:
    """Return the bytes done, of `total` if known, and their rate, as text; empty if unknown."""
    words = ""
    if total:
        words = f"  {done / 1e6:.1f} of {total / 1e6:.1f} MB"
    elif done:
        words = f"  {done / 1e6:.1f} MB"
    if done and seconds > 1:
        words += f" · {done / 1e6 / seconds:.1f} MB/s"
    return words
