"""Talking to a hub that may be slow, busy or gone: never in silence, and not for ever.

The library waits up to five minutes without a word when the hub asks it to, and for ever when the
hub says nothing. So requests run in threads of their own, while the caller's thread goes on
reporting: whoever watches sees what is waited for, and can stop it by raising from the report.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import TypeVar

from llmscope.models.progress import Meter

T = TypeVar("T")

WAITS = (1.0, 2.0, 4.0)  # seconds before each further try
LONGEST = 60.0  # seconds that the hub may ask for, all in all
WORTH = 1 << 20  # bytes that have to come for the tries to be counted anew
_BEAT = 0.1  # seconds between two reports
_GRACE = 1.0  # seconds for the threads to end when nobody waits for them any more
_PASSING = (408, 429, 500, 502, 503, 504)
_RESET = re.compile(r";\s*t=(\d+)")


class FailedError(Exception):
    """A request failed for good: `error` is why. It sets apart what a report raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class StoppedError(Exception):
    """Nobody waits for the answer any more."""


class ShortError(Exception):
    """The connection ended well, but bytes are missing."""


class HubConnection:
    """What the threads that ask tell the one that reports.

    Attributes:
        arrived: bytes of each file that are here.
        total: bytes of all of them; None if not known.
    """

    def __init__(self, total: float | None = None) -> None:
        self._notes: dict[int, str] = {}
        self.arrived: dict[str, float] = {}
        self.total = total
        self._stopped = threading.Event()

    @property
    def note(self) -> str:
        """What is being waited for; empty while nothing is."""
        return next(iter(list(self._notes.values())), "")

    @contextmanager
    def waiting(self, note: str) -> Iterator[None]:
        """This thread waits for something while the block lasts."""
        self._notes[threading.get_ident()] = note
        try:
            yield
        finally:
            del self._notes[threading.get_ident()]

    def stop(self) -> None:
        """Everybody who asks shall end."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `StoppedError` if nobody waits any more."""
        if self._stopped.is_set():
            raise StoppedError

    def pause(self, seconds: float, note: str) -> None:
        """Wait, and say for what."""
        with self.waiting(note):
            self._stopped.wait(seconds)
        self.check()


def watched(
    jobs: Sequence[Callable[[], T]], line: HubConnection, meter: Meter, threads: int = 4
) -> list[T]:
    """The results of all jobs, in their order; the meter is told at every beat what the line says.

    Raises:
        FailedError: a job raised; the others were stopped.
    """
    waiting = deque(enumerate(jobs))
    results: dict[int, T] = {}
    errors: list[Exception] = []

    def work() -> None:
        try:
            while not errors:
                try:
                    index, job = waiting.popleft()
                except IndexError:
                    return
                results[index] = job()
        except Exception as error:
            errors.append(error)
            line.stop()

    # Daemons: a connection that hangs must not keep the program from ending.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(jobs)))]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(_BEAT)
                meter.say(line.note)
                meter.reach(sum(line.arrived.values()), line.total)
    except BaseException:
        line.stop()
        for worker in workers:
            worker.join(_GRACE)
        raise
    if errors:
        raise FailedError(errors[0])
    return [results[index] for index in range(len(jobs))]


def patiently(
    ask: Callable[[], T],
    line: HubConnection,
    *,
    reconnect: bool = False,
    progress: Callable[[], float] = lambda: 0.0,
) -> T:
    """The answer, asked for again a few times when the trouble may pass.

    Args:
        ask: makes the request.
        line: told what is waited for.
        reconnect: whether a connection that cannot be made, or hangs, may pass too.
        progress: bytes that have come; after `WORTH` more the tries are counted anew.
    """
    waits, patience, before = list(WAITS), LONGEST, progress()
    while True:
        try:
            return ask()
        except Exception as error:
            if progress() >= before + WORTH:
                waits, before = list(WAITS), progress()
            if not waits or not _may_pass(error, reconnect):
                raise
            asked = asked_to_wait(error) or 0.0
            patience -= asked
            if patience < 0:
                raise
            seconds = max(waits.pop(0), asked)  # a hub that asks for nothing at all is not hammered
            line.pause(seconds, _told(error, seconds))


def asked_to_wait(error: BaseException) -> float | None:
    """Seconds after which the hub wants to be asked again, if its answer says so."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    after = str(headers.get("retry-after", "")).strip()
    if after.isdecimal():
        return float(after)
    reset = _RESET.search(str(headers.get("ratelimit", "")))
    if reset is not None and status_of(error) == 429:
        return float(reset[1])
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def status_of(error: BaseException | None) -> int | None:
    """The status of the hub's refusal, also where another error was raised because of it."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
        error = error.__cause__ or error.__context__
    return None


def is_named(error: BaseException, *names: str) -> bool:
    """Whether an error is of a class of that name.

    The HTTP library below huggingface_hub is another module from one release to the next; its
    classes keep their names.
    """
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _may_pass(error: Exception, reconnect: bool) -> bool:
    if status_of(error) in _PASSING or isinstance(error, ShortError):
        return True
    if not is_named(error, "TransportError") or is_named(error, "ProxyError"):
        return False
    return reconnect or not is_named(error, "ConnectError", "TimeoutException")


def _told(error: Exception, seconds: float) -> str:
    status = status_of(error)
    if status == 429:
        return f"the hub asks to wait, {seconds:.0f} s"
    why = "connection lost" if status is None else f"status {status}"
    return f"{why}, again in {seconds:.0f} s"
