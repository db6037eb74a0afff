"""The standard streams: stdout for data, stderr for messages; either may be closed or full."""

from __future__ import annotations

import os
import sys

from llmscope.errors import ScopeError
from llmscope.support.text import display_text


def open_streams() -> None:
    """Open the null device in place of standard streams that were closed at startup.

    Python sets such a stream to None, which libraries do not expect; and the next file opened would
    get the free descriptor, and with it whatever libraries print.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # a lower descriptor was free as well
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def put(data: str | bytes) -> None:
    """Write to stdout, text as UTF-8.

    Raises:
        ScopeError: stdout cannot be written.
        BrokenPipeError: the reader of stdout is gone.
    """
    import typer  # late: opening the screen does not need it

    try:
        typer.echo(data.encode("utf-8") if isinstance(data, str) else data, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = display_text(error.strerror or str(error))
        raise ScopeError(
            f"cannot write to stdout: {reason}", "another place to write to"
        ) from error
