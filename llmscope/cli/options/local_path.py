"""Paths that a command writes to on this machine alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from llmscope.cli.options.shared import usage
from llmscope.errors import ScopeError
from llmscope.support.storage import URL_AS_PATH
from llmscope.support.text import display_line, display_text


def check_new_file(path: Path, suffixes: Sequence[str], force: bool) -> None:
    """Check the name of a file before anything is loaded.

    Args:
        path: the file.
        suffixes: those of the formats that it may have.
        force: whether it may be replaced.

    Raises:
        BadParameter: its suffix is no format.
        ScopeError: a file of that name exists, and is not to be replaced.
    """
    usage(path.suffix in suffixes, f"a name that ends in {' or '.join(suffixes)}", "--out")
    if path.exists() and not force:
        raise ScopeError(f"{display_text(str(path))} exists", "--force to replace it")


def local(path: Path | None) -> Path | None:
    """Return the path: the callback of an option that takes no URL.

    Raises:
        BadParameter: it is a URL, which would make a folder such as `s3:`.
    """
    url = None if path is None else URL_AS_PATH.match(path.as_posix())
    if url:
        printed = display_line(f"{url[1]}://{str(path)[url.end() :]}")
        raise typer.BadParameter(f"a path, not a URL: {printed}; copy what is written there")
    return path
