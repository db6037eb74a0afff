"""`--json` and `--format` of commands that print a report: two spellings of one choice."""

from __future__ import annotations

from typing import Annotated

import typer

from llmscope.cli.options.shared import usage

TEXT, JSON = "txt", "json"
Json = Annotated[bool, typer.Option("--json", help="Print JSON: --format json.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", metavar=f"{TEXT}|{JSON}", help="What to print on stdout.", show_default=TEXT
    ),
]


def with_json(json: bool, format: str | None) -> str | None:  # noqa: A002
    """Return the format that is asked for, of a command that has others than text and JSON.

    Args:
        json: whether `--json` is given.
        format: the value of `--format`; None: not given.

    Raises:
        BadParameter: the two ask for different ones.
    """
    usage(not json or format in (None, JSON), f"it means --format {JSON}, not {format}", "--json")
    return JSON if json else format


def wants_json(json: bool, format: str | None, text: str = TEXT) -> bool:  # noqa: A002
    """Return whether a report is printed as JSON.

    Args:
        json: whether `--json` is given.
        format: the value of `--format`; None: not given.
        text: another name of the format of text, besides `txt`.

    Raises:
        BadParameter: there is no such format, or the two ask for different ones.
    """
    known = dict.fromkeys((text, TEXT, JSON))
    usage(format is None or format in known, f"one of {', '.join(known)}", "--format")
    return with_json(json, format) == JSON
