"""The command line, with one file per command."""

from __future__ import annotations

import gc
import os
import sys

from llmscope.cli.command_table import COMMANDS


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from llmscope.cli.cpu_setup import set_up_cpu
    from llmscope.support.signals import end_on_signals

    set_up_cpu()
    end_on_signals()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from llmscope.cli.ranks import begin

        begin()
    from llmscope.cli.output.streams import open_streams

    open_streams()
    _tell_clash()
    words = sys.argv[1:]
    if is_plain(words):
        _open(words[0] if words else None)
    if is_plain_file(words):
        _show_file(*words)
    from llmscope.cli.app import app

    app()


def _tell_clash() -> None:
    """Print a note if another distribution in this environment overwrites these files."""
    if "_LLMSCOPE_COMPLETE" in os.environ or "TEXTUAL_DRIVER" in os.environ:
        return  # a shell reads what is printed, or the process of a page, whose server has told it
    from llmscope.support.distributions import clash_line

    if line := clash_line():
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def is_plain(words: list[str]) -> bool:
    """Return whether the arguments are at most a model, so that the parser is not needed.

    Importing the parser takes half as long as everything up to the first picture.
    """
    if len(words) > 1 or "_LLMSCOPE_COMPLETE" in os.environ:
        return False
    return not words or (words[0] not in COMMANDS and words[0][:1] not in ("-", ""))


def is_plain_file(words: list[str]) -> bool:
    """Return whether the arguments are `replay` and a file, or `watch` and a run.

    The parser is not needed then.
    """
    if len(words) != 2 or words[1][:1] in ("-", "") or "_LLMSCOPE_COMPLETE" in os.environ:
        return False
    run = words[1].startswith("builtin:") or os.path.isfile(os.path.join(words[1], "run.json"))
    return words[0] == "replay" or (words[0] == "watch" and run)


def _show_file(command: str, file: str) -> None:
    from llmscope.cli.launch import replay_plainly, watch_plainly
    from llmscope.cli.output.errors import reported

    gc.disable()  # modules imported before the first picture are never freed
    with reported(debug=False):
        raise SystemExit((replay_plainly if command == "replay" else watch_plainly)(file))


def _open(model: str | None) -> None:
    from llmscope.cli.launch import opening, show
    from llmscope.cli.output.errors import reported

    gc.disable()  # until the loader has imported what it needs
    with reported(debug=False):
        raise SystemExit(show(opening(model)))
