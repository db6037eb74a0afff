"""`llmscope watch`: show a run of a training on the screen, live or later, without the model."""

from __future__ import annotations

from typing import Annotated

import typer

from llmscope.cli.options import shared
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported


def watch(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="The folder that llmscope.training writes, or builtin:town-run. Two runs of the "
            "same prompts are shown beside each other.",
        ),
    ],
    theme: shared.ScreenTheme = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    bandwidth: shared.Bandwidth = "auto",
    debug: shared.Debug = False,
) -> None:
    """Watch a training: what lenses show of some prompts, step by step, also while it grows.

    It needs neither the model nor torch.
    """
    with reported(debug):
        usage(len(runs) <= 2, "at most two runs can be shown beside each other", "RUN")
        tier = shared.tier(color)
        from llmscope.cli.launch import watch as show

        raise typer.Exit(
            show(tuple(runs), theme=theme, tier=tier, ascii=ascii, bandwidth=bandwidth, debug=debug)
        )
