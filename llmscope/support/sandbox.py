"""Run functions over foreign data in a child process: bounded in time, memory and output.

A chat template, a regular expression or a tokenizer that came with a model may loop forever
without letting any other thread run, request all memory, or abort the process. In a child only that
child is lost: it is killed, the caller gets a reason, and the next call starts a new one.

The child starts with the first call and serves later ones. It reads requests from a pipe and ends
when the pipe closes, so it does not outlive its parent. It only gets the environment variables that
Python and the time zone need, cannot write files, and has no terminal.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from threading import Event, Lock, Thread
from typing import IO, Any

STARTING = 60.0
"""Maximum seconds for the child to start, on the busiest machine."""
MARGIN = 2.0
"""Seconds after the deadline at which the child ends itself, in case its parent is gone."""
LONGEST_REASON = 1000
"""Maximum characters of an error message that the child returns."""
POLL = 0.05
"""Seconds between checks whether an interruptible call was given up."""
MIB = 1 << 20

_LENGTH = struct.Struct(">Q")
_KEPT = ("PATH", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


class Cancelled(Exception):  # noqa: N818 - not an error: the user changed their mind
    """Work was abandoned because its result is no longer wanted."""


_GIVEN_UP: ContextVar[Callable[[], bool] | None] = ContextVar("given up", default=None)


def give_up_when(cancelled: Callable[[], bool]) -> None:
    """Let interruptible calls of this thread end with `Cancelled` once `cancelled` returns true.

    It is called in another thread.
    """
    _GIVEN_UP.set(cancelled)


class CallError(Exception):
    """A call without a result. The text gives the reason in a few words."""


class TimeLimitError(CallError):
    """The call did not end in time."""


class MemoryLimitError(CallError):
    """The call requested more memory than allowed."""


class SizeLimitError(CallError):
    """The result is larger than allowed."""


class FunctionError(CallError):
    """The function raised; the text is its message, or the name of the exception.

    Attributes:
        kind: the name of the exception's class.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message or kind)
        self.kind = kind


class Worker:
    """A child process that runs one module's functions, one call at a time.

    Args:
        module: the module that the child imports, such as `llmscope.models.tokenizer.template`; it
            should import little.
        memory: maximum bytes of address space of the child.
        setup: the name of a function of the module and its arguments, called in each child that
            starts; None: no setup.
        seconds: the deadline of `setup`.
    """

    def __init__(
        self,
        module: str,
        *,
        memory: int = 512 * MIB,
        setup: tuple[Any, ...] | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._module = module
        self._memory = memory
        self._setup = setup
        self._seconds = seconds
        self._process: Any = None
        self._owner = 0
        self._lock = Lock()

    def call(
        self,
        name: str,
        *arguments: Any,
        seconds: float,
        largest: int = 64 * MIB,
        interruptible: bool = False,
    ) -> Any:
        """Call a function of the module in the child and return its result.

        Args:
            name: the name of the function.
            arguments: its arguments; they and the result are sent as JSON.
            seconds: the deadline of this call, without the start of the child.
            largest: maximum bytes of JSON of the result.
            interruptible: whether `give_up_when` may end the call.

        Raises:
            CallError: the call gave no result.
            Cancelled: it was given up.
        """
        cancelled = _GIVEN_UP.get() if interruptible else None
        with self._lock:
            if self._owner != os.getpid():  # after a fork the pipes are the parent's
                self._process = None
            try:
                if self._process is not None and self._process.poll() is not None:
                    self._kill()  # it ended between two calls
                if self._process is None:
                    self._start()
                return self._ask([name, *arguments], seconds, largest, cancelled)
            except FunctionError:
                raise  # the child is still usable
            except BaseException:
                self._kill()
                raise

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._kill()

    @property
    def running(self) -> bool:
        """Whether a child is running."""
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        import subprocess  # late import: most sessions never start a child

        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from llmscope.support.sandbox import serve\n"
            f"serve({self._module!r}, {self._memory})"
        )
        variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._owner = os.getpid()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-I", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**variables, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
                start_new_session=True,  # keeps ctrl+c in the terminal from the child
            )
        except OSError as error:
            raise CallError(f"no process can be started: {error.strerror}") from error
        self._within(STARTING, lambda: self._reply(MIB))
        if self._setup is not None:
            self._ask(list(self._setup), self._seconds, MIB)

    def _ask(
        self,
        request: list[Any],
        seconds: float,
        largest: int,
        cancelled: Callable[[], bool] | None = None,
    ) -> Any:
        data = json.dumps([seconds, largest, *request]).encode()

        def asked() -> Any:
            with suppress(OSError):  # the child died; the read below finds out how
                self._process.stdin.write(_LENGTH.pack(len(data)) + data)
                self._process.stdin.flush()
            return self._reply(largest)

        status, value = self._within(seconds, asked, cancelled)
        if status == "ok":
            return value
        if status == "large":
            raise SizeLimitError(f"it makes more than {largest // MIB or 1} MiB")
        kind, message = value
        if kind == "MemoryError":
            raise MemoryLimitError(self._hungry())
        raise FunctionError(kind, message)

    def _within(
        self, seconds: float, read: Callable[[], Any], cancelled: Callable[[], bool] | None = None
    ) -> Any:
        """Return the result of `read`; kill the child after `seconds`, or once it is cancelled."""
        process, done, reasons = self._process, Event(), list[str]()
        pause = self._pause if cancelled is None else POLL

        def watch() -> None:
            import time

            end = time.monotonic() + seconds
            while not done.wait(max(0.0, min(end - time.monotonic(), pause))):
                if time.monotonic() >= end:
                    reasons.append("time")
                elif cancelled is not None and cancelled():
                    reasons.append("cancelled")
                elif self._pause < seconds and _resident(process.pid) > self._memory:
                    reasons.append("memory")
                if reasons:
                    process.kill()
                    return

        watcher = Thread(target=watch, name="llmscope-watch", daemon=True)
        watcher.start()
        try:
            reply = read()
        finally:
            done.set()
        if reply is not None:
            return reply
        watcher.join()
        status = process.wait()
        if reasons == ["cancelled"]:
            raise Cancelled
        if reasons == ["time"] or status == -getattr(signal, "SIGALRM", 0):
            raise TimeLimitError(f"it did not end within {round(seconds, 1):g} s")
        if reasons:
            raise MemoryLimitError(self._hungry())
        if status == -signal.SIGABRT:  # Rust and C++ abort when an allocation fails
            raise CallError(f"it crashed, as where {self._hungry()}")
        raise CallError(f"it crashed: {_signal_name(status)}")

    @property
    def _pause(self) -> float:
        """Seconds between checks of the child's memory, on systems that do not limit it."""
        return float("inf") if sys.platform == "linux" else 0.05

    def _hungry(self) -> str:
        return f"it needs more than {self._memory // MIB} MiB of memory"

    def _reply(self, largest: int) -> Any:
        """Read the next reply; return None if the child is gone."""
        stream = self._process.stdout
        head = stream.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > largest + 16 * LONGEST_REASON:
            raise SizeLimitError("it wrote more than it may")
        data = stream.read(length)
        return json.loads(data) if len(data) == length else None

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                stream.close()
        process.wait()


def serve(module: str, memory: int) -> None:
    """Answer requests on stdin until it closes. Runs in the child.

    Args:
        module: the module whose functions are called.
        memory: maximum bytes of address space.
    """
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _limit_resources(memory)
    from importlib import import_module

    functions = import_module(module)
    _send(answers, ["ok", None])
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        seconds, largest, name, *arguments = json.loads(source.read(_LENGTH.unpack(head)[0]))
        with suppress(AttributeError):  # Windows has no such timer; the parent watches there
            signal.setitimer(signal.ITIMER_REAL, seconds + MARGIN)  # works while the GIL is held
        reply = _answer(functions, name, arguments, largest)
        with suppress(AttributeError):
            signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, reply)


def _answer(module: Any, name: str, arguments: list[Any], largest: int) -> Any:
    try:
        result = getattr(module, name)(*arguments)
        if len(json.dumps(result)) > largest:
            return ["large", None]
        return ["ok", result]
    except BaseException as error:  # Rust panics are not Exceptions
        message = ""
        with suppress(BaseException):
            message = str(error)[:LONGEST_REASON]
        return ["raised", [type(error).__name__, message]]


def _send(stream: IO[bytes], reply: Any) -> None:
    try:
        data = json.dumps(reply).encode()
    except MemoryError:
        data = b'["raised", ["MemoryError", ""]]'
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def _limit_resources(memory: int) -> None:
    """Limit this process's memory to `memory` bytes, and forbid it core dumps and files.

    The limits cannot be raised again. A system without limits keeps none: there the parent process
    watches the memory.
    """
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_AS": memory, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}
    for name, size in limits.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (size, size))


def _resident(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _signal_name(status: int) -> str:
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"
