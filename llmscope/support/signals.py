"""Handling of ctrl+c and other signals in a command: clean up silently and exit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread, Timer
from typing import Any

GRACE = 2.0
"""Maximum seconds to clean up. A library that waits for its own threads would take minutes."""


_WAKES: list[Callable[[], object]] = []


def wake_on_signals(wake: Callable[[], object]) -> None:
    """Call a function in another thread whenever a signal comes, in place of that of before.

    A signal that comes just before a loop goes to sleep does not end its sleep, and the handler
    runs only after that.

    Args:
        wake: wakes the loop of the main thread; it may fail once the loop is closed.
    """
    _WAKES[:] = [wake]


def endings() -> list[int]:
    """Return the signals that end the program: those that exist here and are not ignored.

    A program started by nohup ignores SIGHUP, and must continue to do so.
    """
    known = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    return [n for n in known if n is not None and signal.getsignal(n) != signal.SIG_IGN]


def status_of(number: int) -> int:
    """Return the exit status for a signal, by the convention of shells."""
    return 128 + number


def end_on_signals() -> None:
    """Exit on a signal, with the status of that signal; on a second one, exit immediately.

    Cleanup code runs, so that no incomplete files are left in the cache. The TUI handles signals
    itself.
    """
    signals_seen: list[int] = []

    def end(number: int, _: object) -> None:
        status = status_of(number)
        if signals_seen:
            os._exit(status)
        signals_seen.append(number)
        timer = Timer(GRACE, os._exit, [status])
        timer.daemon = True
        timer.start()
        raise SystemExit(status)

    for number in endings():
        signal.signal(number, end)
    _end_anyway(end)


def _end_anyway(end: Any) -> None:
    """Exit GRACE seconds after a signal even if the main thread never gets to handle it.

    Python runs handlers in the main thread only, between two bytecode instructions: not while a
    library computes. The number of a signal is written to a descriptor immediately, though, and
    another thread reads it there, as long as the library lets any thread run.

    Args:
        end: the installed handler; do nothing once another one is installed.
    """
    if not hasattr(os, "set_blocking"):  # Windows, before Python 3.12
        return
    heard, written_end = os.pipe()
    os.set_blocking(written_end, False)
    try:
        signal.set_wakeup_fd(written_end, warn_on_full_buffer=False)
    except ValueError:  # not in the main thread, or a system that only accepts sockets
        os.close(heard)
        os.close(written_end)
        return

    def listen() -> None:
        while True:
            for number in os.read(heard, 1):
                for wake in _WAKES:
                    with suppress(RuntimeError):  # the loop is closed
                        wake()
                if signal.getsignal(number) is end:
                    time.sleep(GRACE)
                    os._exit(status_of(number))

    Thread(target=listen, name="llmscope-signals", daemon=True).start()
