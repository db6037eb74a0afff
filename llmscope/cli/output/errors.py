"""Turn exceptions into one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from llmscope.cli.output.notices import detail, tell_plainly, volume
from llmscope.errors import LONGEST, Error, read_in
from llmscope.support.distributions import left_out
from llmscope.support.text import one_line, typed_error_line

FAILED = 1
INTERRUPTED = 130  # what a shell reports for a program that ctrl+c ended


@contextmanager
def reported(debug: bool, failed: int = FAILED) -> Iterator[None]:
    """Report any failure in the block as `error: … (try: …)` on stderr, and exit.

    Args:
        debug: show the traceback as well.
        failed: the exit code.
    """
    begun = time.perf_counter()
    try:
        with read_in("shell"):
            yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of stdout is gone. Without this, Python would fail again in its flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # no library's failure or panic may end in a traceback
        if _is_typers(error):
            raise
        if debug:
            traceback.print_exc()
        _tell_flaws()
        print(describe(error), file=sys.stderr, flush=True)  # noqa: T201
        raise SystemExit(failed) from None
    finally:
        _tell_flaws()
        detail(f"took {time.perf_counter() - begun:.2f} s")
        volume.quiet = volume.verbose = False


def _tell_flaws() -> None:
    """Print a note for each part of another package that could not be used."""
    plugins = sys.modules.get("llmscope.plugins")  # imported only where there are such parts
    for flaw in plugins.take_flaws() if plugins is not None else ():
        tell_plainly(f"note: {flaw}")


def _is_typers(error: BaseException) -> bool:
    """Return whether an exception is typer's own: a normal exit, or a usage error it reports."""
    typer = sys.modules.get("typer")  # imported only where arguments were parsed
    return typer is not None and isinstance(error, (typer.Exit, typer.Abort, typer.BadParameter))


def describe(error: BaseException) -> str:
    """Return the error line for an exception, of bounded length."""
    error = left_out(error) or error
    if isinstance(error, Error):
        message, hint = error.message, error.hint
    elif isinstance(error, ValueError) and str(error):
        message, hint = str(error), ""
    else:
        message, hint = typed_error_line(error), "--debug, which shows where"
    line = f"error: {message}" + (f" (try: {hint})" if hint else "")
    return one_line(line, 3 * LONGEST)
