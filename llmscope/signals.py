"""What ctrl+c and its relatives do to a command: it tidies up, says nothing and ends."""

from __future__ import annotations

import os
import signal
import time
from threading import Thread, Timer
from typing import Any

GRACE = 2.0
"""Seconds to tidy up in. A library that waits for its own threads would take minutes."""


def endings() -> list[int]:
    """The signals that end the program: those that this system knows and nobody had ignored.

    What was started by nohup ignores SIGHUP, and must go on doing so.
    """
    known = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    return [n for n in known if n is not None and signal.getsignal(n) != signal.SIG_IGN]


def status_of(number: int) -> int:
    """The exit status that says which signal ended a program, as shells give it."""
    return 128 + number


def end_on_signals() -> None:
    """End with the status that says why; at once when asked a second time.

    Everything on the way out runs, so that nothing half-made is left in the cache. The screen has
    its own way to leave.
    """
    asked: list[int] = []

    def end(number: int, _: object) -> None:
        status = status_of(number)
        if asked:
            os._exit(status)
        asked.append(number)
        timer = Timer(GRACE, os._exit, [status])
        timer.daemon = True
        timer.start()
        raise SystemExit(status)

    for number in endings():
        signal.signal(number, end)
    _end_anyway(end)


def _end_anyway(end: Any) -> None:
    """End GRACE seconds after a signal even where the main thread never gets to handle it.

    Python runs handlers in the main thread only, between two steps of Python code: not while a
    library computes. The number of a signal is written to a descriptor at once, though, and
    another thread reads it there, as long as the library lets any thread run.

    Args:
        end: the handler that is installed; nothing happens once another one is.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    try:
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    except ValueError:  # not in the main thread, or a system that takes sockets alone
        os.close(heard)
        os.close(told)
        return

    def listen() -> None:
        while True:
            for number in os.read(heard, 1):
                if signal.getsignal(number) is end:
                    time.sleep(GRACE)
                    os._exit(status_of(number))

    Thread(target=listen, name="llmscope-signals", daemon=True).start()
