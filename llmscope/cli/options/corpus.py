"""Options of commands that read a corpus, and its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Prompts = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Text: a .jsonl, .csv, .tsv or .parquet file with `prompt`, a .txt file with one a "
        "line, or - for JSON lines on stdin.",
    ),
]
MaxPrompts = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Stop after this many.", show_default="all"),
]


def length_option(least: int) -> typer.models.OptionInfo:
    """Return the option of the tokens at which prompts are cut, at least `least`."""
    found: typer.models.OptionInfo = typer.Option(
        min=least, help="Cut prompts after this many tokens.", metavar="TOKENS"
    )
    return found


def corpus_name(prompts: str) -> str:
    """Return the name of a corpus that results tell, without its folder."""
    return "stdin" if prompts == "-" else Path(prompts).name
