"""The progress line on stderr, shown only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TextIO

from llmscope.models.loaded_model import Progress
from llmscope.text import display_text

_START = "\r\x1b[K"


@contextmanager
def progress_line(stream: TextIO | None = None) -> Iterator[Progress | None]:
    """Yield a callback that rewrites one line, erased at the end; None without a terminal."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield None
        return
    line = _Line(stream)
    try:
        yield line
    finally:
        stream.write(_START)
        stream.flush()


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
