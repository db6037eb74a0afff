"""`llmscope replay`: a snapshot on the screen, without the model."""

from __future__ import annotations

from typing import Annotated

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
    theme: options.ScreenTheme = None,
    color: options.Colours = "auto",
    ascii: options.Ascii = None,  # noqa: A002
    bandwidth: options.Bandwidth = "auto",
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
