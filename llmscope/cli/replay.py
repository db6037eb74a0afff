"""`llmscope replay`: a snapshot on the screen, without the model."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from llmscope.cli import completion, options
from llmscope.cli.errors import reported


def replay(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            autocompletion=completion.snapshots,
            help="What `llmscope snapshot` wrote as safetensors (either of its two files), json "
            "or npz.",
        ),
    ],
    theme: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.themes,
            help="Colours; see `llmscope themes`. auto: dark or light, as the terminal is.",
            show_default="the one chosen last, or auto",
        ),
    ] = None,
    color: options.Colours = "auto",
    ascii: options.Ascii = None,  # noqa: A002
    bandwidth: Annotated[
        Literal["auto", "high", "low"],
        typer.Option(help="What to send the terminal. Low: fewer colours."),
    ] = "auto",
    debug: options.Debug = False,
) -> None:
    """Open a snapshot on the screen: its figures as they were, without the model and torch.

    The cursor walks through the figures as far as they go; a pane says what the snapshot does not
    hold. The prompt is read only.
    """
    with reported(debug):
        tier = options.tier(color)
        from llmscope.cli.screen import replay as show

        raise typer.Exit(
            show(file, theme=theme, tier=tier, ascii=ascii, bandwidth=bandwidth, debug=debug)
        )
