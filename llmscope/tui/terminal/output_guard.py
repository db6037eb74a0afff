"""Keeps the terminal for the screen alone: output of libraries goes to a temporary file."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Timer
from typing import IO, TYPE_CHECKING, Any, TextIO

from llmscope.support.signals import endings, status_of, wake_on_signals

if TYPE_CHECKING:
    from textual.app import App

TAIL = 16_000
"""Bytes of library output that are kept for a crash report."""

LEAVING = 20.0
"""Seconds that leaving in order may take after a signal; then the program ends all the same."""

PATIENCE = 1.0
"""Seconds that a process that ends at once waits for a terminal that is busy."""

# Leave the alternate screen, show the cursor, wrap lines; mouse, paste, focus and kitty modes off.
RESET = (
    "\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l"
    "\x1b[?2004l\x1b[?1004l\x1b[<u\x1b[0m"
)


class RedirectedOutput:
    """The output to stdout and stderr while the screen was up."""

    def __init__(self, file: IO[bytes], leave_terminal: Callable[[], None]) -> None:
        """Take the file that the output goes to, and what leaves the terminal without waiting."""
        self._file = file
        self.leave_terminal = leave_terminal

    def tail(self) -> str:
        """Return the end of the output as text."""
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - TAIL))
        return self._file.read().decode("utf-8", "replace")


@contextmanager
def own_terminal() -> Iterator[RedirectedOutput]:
    """Hand Textual a duplicate of the terminal, and point descriptors 1 and 2 at a file.

    Textual draws on `sys.__stderr__`, and asks `sys.__stdout__` for the size; a C library that
    writes to descriptor 2 would otherwise write over the screen. Everything is restored at the
    end, and the terminal is left clean whatever happened.
    """
    saved = _attributes()
    originals = (sys.__stdout__, sys.__stderr__)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    screen, stderr = os.dup(1), os.dup(2)
    tty = os.isatty(screen)  # a web page is no terminal: see `llmscope.tui.terminal.web_page`
    if tty:
        for name in ("COLUMNS", "LINES"):  # exported, they would override the actual size
            os.environ.pop(name, None)
    terminal: TextIO = os.fdopen(os.dup(screen), "w", encoding="utf-8", errors="replace")
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.__stdout__ = sys.__stderr__ = terminal  # type: ignore[misc,assignment]
            leave_terminal = partial(_leave_terminal, screen if tty else None, saved)
            with _dumping_on_quit(leave_terminal if tty else None):
                yield RedirectedOutput(file, leave_terminal)
        except BaseException:
            with suppress(OSError):
                if tty:
                    terminal.write(RESET)
                    terminal.flush()
            raise
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os.dup2(screen, 1)
            os.dup2(stderr, 2)
            sys.__stdout__, sys.__stderr__ = originals  # type: ignore[misc]
            _restore(saved)
            with suppress(OSError):  # the terminal may have hung up
                terminal.close()
            os.close(screen)
            os.close(stderr)


@contextmanager
def leaving_on_signals(
    leave: Callable[[int], None], leave_terminal: Callable[[], None] | None = None
) -> Iterator[None]:
    """Leave in order when the connection, the system or another program ends this one.

    Args:
        leave: called in the app's loop with the exit status. If no loop runs yet, SystemExit
            is raised with it instead.
        leave_terminal: called where leaving in order takes longer than `LEAVING`, before the
            program ends all the same. None waits without end.

    A second signal changes nothing: a closed terminal often sends two, and the first must have
    time to save the prompt.
    """
    begun = False
    last_resort: Timer | None = None

    def end_anyway(number: int) -> None:
        if leave_terminal is not None:
            leave_terminal()
        os._exit(status_of(number))

    def end(number: int, _: object) -> None:
        nonlocal begun, last_resort
        if begun:
            return
        begun = True
        if leave_terminal is not None:
            last_resort = Timer(LEAVING, end_anyway, [number])
            last_resort.daemon = True
            last_resort.start()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SystemExit(status_of(number)) from None
        # A loop that sleeps in select() goes back to sleep after a handler; this wakes it.
        loop.call_soon_threadsafe(leave, status_of(number))

    # Textual handles these two, and would leave its handlers behind.
    stops = [getattr(signal, name) for name in ("SIGTSTP", "SIGCONT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in (*endings(), *stops)}
    try:
        for number in endings():
            signal.signal(number, end)
        yield
    finally:
        if last_resort is not None:
            last_resort.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _dumping_on_quit(leave_terminal: Callable[[], None] | None) -> Iterator[None]:
    """Let SIGQUIT end the program at once with a dump, as it does anywhere, but not in raw mode.

    Args:
        leave_terminal: called before; None if there is no terminal.
    """
    number = getattr(signal, "SIGQUIT", None)
    if leave_terminal is None or number is None or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return

    def dump(*_: object) -> None:
        leave_terminal()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(number, dump)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)


def _leave_terminal(screen: int | None, modes: list[Any] | None) -> None:
    """Leave the terminal as it was, within `PATIENCE` seconds.

    Args:
        screen: the descriptor of the terminal; None if there is no terminal.
        modes: the terminal's modes before the screen.
    """
    if screen is not None and select.select([], [screen], [], PATIENCE)[1]:
        with suppress(OSError):
            os.write(screen, RESET.encode())
    _restore(modes, drain=False)


def outlive_stops(app: App[int]) -> None:
    """Leave the terminal before a stop, and redraw the whole screen when the program continues.

    Any signal wakes the app's loop from here on.

    Textual takes the terminal again but draws nothing. SIGSTOP, which no program can catch, finds
    it unprepared: it would read every key twice from then on. And its handlers write to the
    terminal wherever the signal comes, also while a write holds the lock that they wait for.
    """
    loop = asyncio.get_running_loop()
    wake_on_signals(lambda: loop.call_soon_threadsafe(bool))
    driver: Any = app._driver
    if driver is None or not driver.can_suspend:
        return
    app.app_resume_signal.subscribe(app, lambda _: app.refresh())
    stop: Any = signal.getsignal(signal.SIGTSTP)
    take_again: Any = signal.getsignal(signal.SIGCONT)

    def go_on(number: int, frame: object) -> None:
        if not driver._must_signal_resume:
            driver.suspend_application_mode()
            driver._must_signal_resume = True
        take_again(number, frame)

    signal.signal(signal.SIGTSTP, _in_loop(stop))
    signal.signal(signal.SIGCONT, _in_loop(go_on))


def _in_loop(act: Callable[[int, object], None]) -> Callable[[int, object], None]:
    """Return a handler that lets the running loop call `act`, between two of its callbacks."""

    def handle(number: int, frame: object) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            act(number, frame)
        else:
            loop.call_soon_threadsafe(act, number, None)

    return handle


def can_be_resumed() -> bool:
    """Return whether a shell with job control is there to resume a stopped program."""
    if not hasattr(os, "getsid"):
        return False
    parent = os.getppid()
    with suppress(OSError):
        return os.getsid(parent) == os.getsid(0) and os.getpgid(parent) != os.getpgrp()
    return False


def _attributes() -> list[Any] | None:
    """Return the terminal's modes; None without a terminal or without termios."""
    try:
        import termios
    except ImportError:
        return None
    with suppress(termios.error):
        return termios.tcgetattr(0)
    return None


def _restore(saved: list[Any] | None, *, drain: bool = True) -> None:
    """Set the terminal's modes; with `drain`, once it has taken all output."""
    if saved is None:
        return
    import termios

    with suppress(termios.error):
        termios.tcsetattr(0, termios.TCSADRAIN if drain else termios.TCSANOW, saved)
