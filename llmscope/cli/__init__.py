"""The command line: one file a command."""

from __future__ import annotations


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    from llmscope.signals import end_on_signals

    end_on_signals()
    from llmscope.cli.streams import open_streams

    open_streams()
    from llmscope.cli.app import app

    app()
