"""Paths that a command writes to on this machine alone."""

from __future__ import annotations

from pathlib import Path

import typer

from llmscope.support.storage import URL_AS_PATH
from llmscope.support.text import display_text


def local(path: Path | None) -> Path | None:
    """Return the path: the callback of an option that takes no URL.

    Raises:
        BadParameter: it is a URL, which would make a folder such as `s3:`.
    """
    found = None if path is None else URL_AS_PATH.match(path.as_posix())
    if found:
        shown = display_text(f"{found[1]}://{str(path)[found.end() :]}").replace("\n", " ")
        raise typer.BadParameter(f"a path, not a URL: {shown}; copy what is written there")
    return path
