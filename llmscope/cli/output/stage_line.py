"""Tell the progress of work on one line of a terminal, else on a new line now and then."""

from __future__ import annotations

import time

import typer

from llmscope.models.loaded_model import Progress

TOLD_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class StageLine:
    """Tells what is being done; see `llmscope.cli.output.progress.progress_line`."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._told = time.monotonic()

    def __call__(self, words: str) -> None:
        """Tell it now on a terminal; elsewhere if nothing was told for a while."""
        if self._progress is not None:
            self._progress(words, 0.0, None)
        elif time.monotonic() - self._told > TOLD_EVERY:
            self._told = time.monotonic()
            typer.echo(words, err=True)

    def stage(self, words: str, share: float) -> None:
        """Tell that a part of the work is done to a share."""
        self(f"{words} · {share:.0%}")
