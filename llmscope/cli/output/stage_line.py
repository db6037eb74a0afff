"""Tell the progress of work by its stages."""

from __future__ import annotations

from llmscope.models.loaded_model import Progress


class StageLine:
    """Tells what is being done; see `llmscope.cli.output.progress.progress_line`."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def __call__(self, words: str) -> None:
        """Tell what is being done."""
        if self._progress is not None:
            self._progress(words, 0.0, None)

    def stage(self, words: str, share: float) -> None:
        """Tell that a part of the work is done to a share."""
        self(f"{words} · {share:.0%}")
