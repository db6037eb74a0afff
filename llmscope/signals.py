"""What ctrl+c and its relatives do to a command: it tidies up, says nothing and ends."""

from __future__ import annotations

import os
import signal
from threading import Timer

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
