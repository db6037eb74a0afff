"""The terminal kept for the screen alone: what libraries print goes to a file that nobody sees."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO

TAIL = 16_000
"""Bytes of library output that are kept for a crash report."""

# Leave the alternate screen, show the cursor, wrap lines; mouse, paste, focus and kitty modes off.
RESET = (
    "\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"
    "\x1b[?2004l\x1b[?1004l\x1b[<u\x1b[0m"
)


class Aside:
    """What was written to stdout and stderr while the screen was up."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def tail(self) -> str:
        """Its end, as text."""
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - TAIL))
        return self._file.read().decode("utf-8", "replace")


@contextmanager
def own_terminal() -> Iterator[Aside]:
    """Hand Textual a duplicate of the terminal, and point descriptors 1 and 2 at a file.

    Textual draws on `sys.__stderr__`, and asks `sys.__stdout__` for the size; a C library that
    writes to descriptor 2 would otherwise write over the screen. All is put back at the end, and
    the terminal is left clean whatever happened.
    """
    saved = _attributes()
    originals = (sys.__stdout__, sys.__stderr__)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    screen, kept = os.dup(1), os.dup(2)
    terminal: TextIO = os.fdopen(os.dup(screen), "w", encoding="utf-8", errors="replace")
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.__stdout__ = sys.__stderr__ = terminal  # type: ignore[misc,assignment]
            yield Aside(file)
        except BaseException:
            with suppress(OSError):
                terminal.write(RESET)
                terminal.flush()
            raise
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os.dup2(screen, 1)
            os.dup2(kept, 2)
            sys.__stdout__, sys.__stderr__ = originals  # type: ignore[misc]
            _restore(saved)
            terminal.close()
            os.close(screen)
            os.close(kept)


def leave_on_signals(leave: Callable[[], None]) -> None:
    """Leave in order, with everything saved, when the connection or the system ends the program."""
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGHUP"):
        # Windows knows neither the second signal nor handlers of a loop.
        with suppress(AttributeError, NotImplementedError):
            loop.add_signal_handler(getattr(signal, name), leave)


def _attributes() -> list[Any] | None:
    """The terminal's modes; None without a terminal, or on a system that knows none."""
    try:
        import termios
    except ImportError:
        return None
    with suppress(termios.error):
        return termios.tcgetattr(0)
    return None


def _restore(saved: list[Any] | None) -> None:
    if saved is None:
        return
    import termios

    with suppress(termios.error):
        termios.tcsetattr(0, termios.TCSADRAIN, saved)
