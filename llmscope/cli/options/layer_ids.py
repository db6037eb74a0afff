"""The ids of the layers in a file of another engine, which names none."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from llmscope.cli.options.shared import usage

LARGEST_ID = 10_000
"""The largest id."""
_PART = re.compile(r"(\d{1,5})(?:\.\.(\d{1,5}))?", re.ASCII)

LayerIds = Annotated[
    str | None,
    typer.Option(
        "--layer-ids",
        metavar="1,2,…",
        help="Which layers a file of vLLM's hidden states holds, since it names none: 0 is the "
        "embedding, 5 the stream after 5 layers, 0..30 several.",
        show_default=False,
    ),
]


def read_layer_ids(text: str | None) -> tuple[int, ...] | None:
    """Return the ids that `--layer-ids` names; None if it is not given.

    Raises:
        BadParameter: it is no list of ids.
    """
    if text is None:
        return None
    ids: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        usage(match is not None, "ids such as 1,2,16 or 0..30", "--layer-ids")
        assert match is not None
        first, last = int(match[1]), int(match[2] or match[1])
        fits = first <= last <= LARGEST_ID and len(ids) <= LARGEST_ID
        usage(fits, f"ids that ascend, up to {LARGEST_ID}", "--layer-ids")
        ids += range(first, last + 1)
    return tuple(ids)
