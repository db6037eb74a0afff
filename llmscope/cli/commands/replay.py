"""`llmscope replay`: show a snapshot on the screen, without the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from llmscope.cli import completion
from llmscope.cli.options import shared
from llmscope.cli.options.layer_ids import LayerIds, read_layer_ids
from llmscope.cli.options.shared import usage
from llmscope.cli.output.errors import reported


def replay(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            autocompletion=completion.snapshots,
            help="What `llmscope snapshot` wrote as safetensors (either of its two files), json "
            "or npz; a file of vLLM's hidden states; or the folder of a batch.",
        ),
    ],
    layers: LayerIds = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            autocompletion=completion.models,
            help="For a file of hidden states: the model that the engine ran. Its tokenizer gives "
            "the texts of the tokens; its weights are not loaded.",
        ),
    ] = None,
    theme: shared.ScreenTheme = None,
    color: shared.Colours = "auto",
    ascii: shared.Ascii = None,  # noqa: A002
    bandwidth: shared.Bandwidth = "auto",
    debug: shared.Debug = False,
) -> None:
    """Open a snapshot on the screen: its figures as they were, without the model and torch.

    The cursor walks through the figures as far as they go; a pane says what the snapshot does not
    hold. The prompt is read only. Of a file of hidden states it shows the norms of the streams, and
    their cosines to the last; of the folder of a batch the means of each lens, as
    `llmscope report` tells them.
    """
    with reported(debug):
        tier = shared.tier(color)
        ids = read_layer_ids(layers)
        for name, value in (("--layer-ids", layers), ("--tokenizer", tokenizer)):
            usage(
                value is None or not _names_its_own(file),
                "only for a file of hidden states: a snapshot has its own layers and tokens",
                name,
            )
        from llmscope.cli.launch import replay as show

        raise typer.Exit(
            show(
                file,
                layers=ids,
                model=tokenizer,
                theme=theme,
                tier=tier,
                ascii=ascii,
                bandwidth=bandwidth,
                debug=debug,
            )
        )


def _names_its_own(file: str) -> bool:
    """Return whether a file names its layers and tokens: a snapshot, or the folder of a batch."""
    from llmscope.cli.launch import is_batch
    from llmscope.models.hidden_states import is_hidden_states

    return is_batch(file) or (os.path.isfile(file) and not is_hidden_states(Path(file)))
