"""stdout is data, stderr is for people, and either may be closed, full or left by its reader."""

from __future__ import annotations

import os
import sys

from llmscope.errors import ScopeError
from llmscope.text import display_text


def open_streams() -> None:
    """Put the null device in the place of streams that were closed when the program started.

    Python has None there, which nothing expects; and the next file that is opened would get the
    free descriptor, and what libraries print with it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # a lower one is free as well where nobody may reopen it
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def put(data: str | bytes) -> None:
    """Write to stdout, text as UTF-8.

    Raises:
        ScopeError: it takes no more.
        BrokenPipeError: nobody reads it any more.
    """
    import typer  # late: the screen opens without it

    try:
        typer.echo(data.encode("utf-8") if isinstance(data, str) else data, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = display_text(error.strerror or str(error))
        raise ScopeError(
            f"cannot write to stdout: {reason}", "another place to write to"
        ) from error
