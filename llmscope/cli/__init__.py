"""The command line: one file a command."""

from __future__ import annotations

import gc
import os
import sys

COMMANDS = (
    *("open", "serve", "snapshot", "replay", "diff", "lenses", "edits", "bake"),
    *("models", "themes", "config", "doctor"),
)


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from llmscope.signals import end_on_signals

    end_on_signals()
    from llmscope.cli.streams import open_streams

    open_streams()
    words = sys.argv[1:]
    if is_plain(words):
        _open(words[0] if words else None)
    from llmscope.cli.app import app

    app()


def is_plain(words: list[str]) -> bool:
    """Whether the arguments are a model at most: then there is nothing to parse.

    The parser takes as long to import as half of the first picture.
    """
    if len(words) > 1 or "_LLMSCOPE_COMPLETE" in os.environ:
        return False
    return not words or (words[0] not in COMMANDS and words[0][:1] not in ("-", ""))


def _open(model: str | None) -> None:
    from llmscope.cli.errors import reported
    from llmscope.cli.screen import opening, show

    gc.disable()  # until the loader has imported what it needs
    with reported(debug=False):
        raise SystemExit(show(opening(model)))
