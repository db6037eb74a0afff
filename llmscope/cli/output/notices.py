"""What a command tells beside its output, on stderr: notes, more with --verbose, less with --quiet.

Errors are told in any case: see `llmscope.cli.output.errors`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from llmscope.support.text import NOTE, one_line


@dataclass
class Volume:
    """How much the command that runs tells: that of its options, from parsing to its end."""

    quiet: bool = False
    verbose: bool = False


volume = Volume()


def tell(words: str) -> None:
    """Print a note, unless the command is to be quiet."""
    if not volume.quiet:
        _print(f"note: {one_line(words, NOTE)}")


def tell_plainly(line: str) -> None:
    """Print a line as it is, unless the command is to be quiet."""
    if not volume.quiet:
        _print(line)


def detail(words: str) -> None:
    """Print a note that only --verbose asks for."""
    if volume.verbose:
        _print(f"note: {one_line(words, NOTE)}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
