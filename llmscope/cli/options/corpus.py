"""Options of commands that read a corpus, and its prompts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from llmscope.cli.options.shared import usage

_SHARE = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)

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


def length_option(lowest: int) -> typer.models.OptionInfo:
    """Return the option of the tokens at which prompts are cut, at least `least`."""
    option: typer.models.OptionInfo = typer.Option(
        min=lowest, help="Cut prompts after this many tokens.", metavar="TOKENS"
    )
    return option


def job_share(text: str | None) -> tuple[int, int]:
    """Return which job of how many `--shard` names, from 0; of one without it.

    Raises:
        BadParameter: it is of another form.
    """
    numbers = _SHARE.fullmatch(text or "0/1")
    index, count = map(int, numbers.groups()) if numbers else (1, 0)
    usage(index < count, "I/N with I from 0 to N − 1, such as 0/8", "--shard")
    return index, count


def corpus_name(prompts: str) -> str:
    """Return the name of a corpus that results tell, without its folder."""
    return "stdin" if prompts == "-" else Path(prompts).name
