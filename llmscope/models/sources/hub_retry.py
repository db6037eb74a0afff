"""Requests to a hub that may be slow, busy or unreachable, with progress reports and time limits.

huggingface_hub waits silently for up to five minutes when the hub asks it to, and forever when the
hub does not respond. So requests run in their own threads, while the caller's thread keeps
reporting what is being waited for; the progress callback can stop the requests by raising.
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

WAITS = (1.0, 2.0, 4.0)  # seconds before each retry
LONGEST = 60.0  # seconds of waiting that the hub may ask for in total
WORTH = 1 << 20  # bytes that must arrive to reset the number of retries
_BEAT = 0.1  # seconds between two reports
_GRACE = 1.0  # seconds for the threads to end after they were stopped
_PASSING = (408, 429, 500, 502, 503, 504)
_RESET = re.compile(r";\s*t=(\d+)")


class FailedError(Exception):
    """Raised when a request failed for good, with its `error`.

    It distinguishes request errors from those that the progress callback raises.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class StoppedError(Exception):
    """Raised in a request's thread when its result is no longer needed."""


class ShortError(Exception):
    """Raised when the connection ended normally but bytes are missing."""


class HubConnection:
    """State shared by the requesting threads and the reporting thread.

    Attributes:
        arrived: bytes of each file that have arrived.
        total: bytes of all files; None if unknown.
    """

    def __init__(self, total: float | None = None) -> None:
        self._notes: dict[int, str] = {}
        self.arrived: dict[str, float] = {}
        self.total = total
        self._stopped = threading.Event()

    @property
    def note(self) -> str:
        """Return what is being waited for; empty if no thread is waiting."""
        return next(iter(list(self._notes.values())), "")

    @contextmanager
    def waiting(self, note: str) -> Iterator[None]:
        """Set this thread's note to what it waits for within the block."""
        self._notes[threading.get_ident()] = note
        try:
            yield
        finally:
            del self._notes[threading.get_ident()]

    def stop(self) -> None:
        """Tell all requesting threads to end."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `StoppedError` if the threads were told to end."""
        if self._stopped.is_set():
            raise StoppedError

    def pause(self, seconds: float, note: str) -> None:
        """Wait `seconds` with `note` as the reason; raise `StoppedError` if told to end."""
        with self.waiting(note):
            self._stopped.wait(seconds)
        self.check()


def watched(
    jobs: Sequence[Callable[[], T]], line: HubConnection, meter: Meter, threads: int = 4
) -> list[T]:
    """Run all jobs in threads, and return their results in order.

    Args:
        jobs: the requests.
        line: the state that the jobs share with the reporting thread.
        meter: receives the note and progress of `line` every `_BEAT` seconds.
        threads: most jobs that run at once.

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


def with_retries(
    ask: Callable[[], T],
    line: HubConnection,
    *,
    reconnect: bool = False,
    progress: Callable[[], float] = lambda: 0.0,
) -> T:
    """Return the result of a request, retrying a few times after temporary errors.

    Args:
        ask: makes the request.
        line: receives the note on what is being waited for.
        reconnect: also retry if connecting fails or times out.
        progress: returns the bytes that have arrived; after `WORTH` more the retries start over.
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
            retry_after = asked_to_wait(error) or 0.0
            patience -= retry_after
            if patience < 0:
                raise
            seconds = max(waits.pop(0), retry_after)  # wait even if the hub asks for 0 s
            line.pause(seconds, _describe_wait(error, seconds))


def asked_to_wait(error: BaseException) -> float | None:
    """Return the seconds that the hub's response asks to wait before a retry; None if unstated."""
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
    """Return the HTTP error status behind an error or its causes; None without one."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int) and status >= 400:
            return status
        error = error.__cause__ or error.__context__
    return None


def is_named(error: BaseException, *names: str) -> bool:
    """Return whether an error's class or a base class has one of these names.

    The HTTP library below huggingface_hub differs between releases; its class names stay the same.
    """
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _may_pass(error: Exception, reconnect: bool) -> bool:
    if status_of(error) in _PASSING or isinstance(error, ShortError):
        return True
    if not is_named(error, "TransportError") or is_named(error, "ProxyError"):
        return False
    return reconnect or not is_named(error, "ConnectError", "TimeoutException")


def _describe_wait(error: Exception, seconds: float) -> str:
    status = status_of(error)
    if status == 429:
        return f"the hub asks to wait, {seconds:.0f} s"
    why = "connection lost" if status is None else f"status {status}"
    return f"{why}, again in {seconds:.0f} s"
