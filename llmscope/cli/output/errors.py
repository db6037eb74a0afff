"""From exceptions to one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from llmscope.errors import LONGEST, ScopeError
from llmscope.text import named, one_line

FAILED = 1
INTERRUPTED = 130  # what a shell reports for a program that ctrl+c ended


@contextmanager
def reported(debug: bool, failed: int = FAILED) -> Iterator[None]:
    """Whatever fails in the block becomes `error: … (try: …)` on stderr, and the program ends.

    Args:
        debug: show the traceback as well.
        failed: the exit code.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read stdout has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # no failure of any library, or panic, may end in a traceback
        if _is_typers(error):
            raise
        if debug:
            traceback.print_exc()
        print(describe(error), file=sys.stderr, flush=True)  # noqa: T201
        raise SystemExit(failed) from None


def _is_typers(error: BaseException) -> bool:
    """Whether it is one of typer's own ways to end: no failure, or reported as wrong usage."""
    typer = sys.modules.get("typer")  # imported only where arguments were parsed
    return typer is not None and isinstance(error, (typer.Exit, typer.Abort, typer.BadParameter))


def describe(error: BaseException) -> str:
    """The one line for a failure, of bounded length."""
    if isinstance(error, ScopeError):
        message, hint = error.message, error.hint
    elif isinstance(error, ValueError) and str(error):
        message, hint = str(error), ""
    else:
        message, hint = named(error), "--debug, which shows where"
    line = f"error: {message}" + (f" (try: {hint})" if hint else "")
    return one_line(line, 3 * LONGEST)
