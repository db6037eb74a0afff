"""Run functions over foreign data in a child process: bounded in time, memory and output.

A chat template, a regular expression or a tokenizer that came with a model may loop for ever
without letting any other thread run, ask for all memory, or abort the process. In a child it costs
that child: it is killed, the caller gets a reason, and the next call starts a new one.

The child starts with the first call and serves later ones. It reads requests from a pipe and ends
when the pipe closes, so it does not outlive its parent. It gets no environment variables but those
that Python and the time zone need, cannot write files, and has no terminal.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import IO, Any

STARTING = 60.0
"""Seconds that the child may take to start, on the busiest machine."""
MARGIN = 2.0
"""Seconds after the deadline at which the child ends itself, should its parent be gone."""
LONGEST_REASON = 1000
"""Characters of an error message that come back."""
MIB = 1 << 20

_LENGTH = struct.Struct(">Q")
_KEPT = ("PATH", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP")


class CallError(Exception):
    """A call that gave no result. The text says why, in a few words."""


class TimeLimitError(CallError):
    """The call did not end in time."""


class MemoryLimitError(CallError):
    """The call asked for more memory than it may have."""


class SizeLimitError(CallError):
    """The result is larger than it may be."""


class FunctionError(CallError):
    """The function raised: the text is its message, or the name of the exception.

    Attributes:
        kind: the name of the exception's class.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message or kind)
        self.kind = kind


class Worker:
    """A child process that runs one module's functions, one call at a time.

    Args:
        module: what the child imports, such as `llmscope.models.tokenizer.template`; it should
        import little. memory: bytes of address space that the child may have in all.
        setup: a function of the module and its arguments, called in each child that starts;
            None: nothing is.
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
        self._lock = Lock()

    def call(self, name: str, *arguments: Any, seconds: float, largest: int = 64 * MIB) -> Any:
        """Return what a function of the module returns for these arguments.

        Args:
            name: of the function. Arguments and result travel as JSON.
            seconds: the deadline of this call; the start of the child does not count.
            largest: bytes of JSON that the result may have.

        Raises:
            CallError: there is no result, and why.
        """
        with self._lock:
            try:
                if self._process is not None and self._process.poll() is not None:
                    self._kill()  # it ended between two calls
                if self._process is None:
                    self._start()
                return self._ask([name, *arguments], seconds, largest)
            except FunctionError:
                raise  # the child is well
            except BaseException:
                self._kill()
                raise

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._kill()

    @property
    def running(self) -> bool:
        """Whether there is a child."""
        return self._process is not None and self._process.poll() is None

    def _start(self) -> None:
        import subprocess  # late: most sessions never start a child

        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from llmscope.sandbox import serve\n"
            f"serve({self._module!r}, {self._memory})"
        )
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-I", "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**kept, "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
                start_new_session=True,  # ctrl+c in the terminal is not for the child
            )
        except OSError as error:
            raise CallError(f"no process can be started: {error.strerror}") from error
        self._within(STARTING, lambda: self._reply(MIB))
        if self._setup is not None:
            self._ask(list(self._setup), self._seconds, MIB)

    def _ask(self, request: list[Any], seconds: float, largest: int) -> Any:
        data = json.dumps([seconds, largest, *request]).encode()

        def asked() -> Any:
            with suppress(OSError):  # it died: to read tells how
                self._process.stdin.write(_LENGTH.pack(len(data)) + data)
                self._process.stdin.flush()
            return self._reply(largest)

        status, value = self._within(seconds, asked)
        if status == "ok":
            return value
        if status == "large":
            raise SizeLimitError(f"it makes more than {largest // MIB or 1} MiB")
        kind, message = value
        if kind == "MemoryError":
            raise MemoryLimitError(self._hungry())
        raise FunctionError(kind, message)

    def _within(self, seconds: float, read: Callable[[], Any]) -> Any:
        """What `read` returns, of a child that is killed when it takes too long."""
        process, done, reasons = self._process, Event(), list[str]()

        def watch() -> None:
            import time

            end = time.monotonic() + seconds
            while not done.wait(max(0.0, min(end - time.monotonic(), self._pause))):
                if time.monotonic() >= end:
                    reasons.append("time")
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
        if reasons == ["time"] or status == -getattr(signal, "SIGALRM", 0):
            raise TimeLimitError(f"it did not end within {round(seconds, 1):g} s")
        if reasons:
            raise MemoryLimitError(self._hungry())
        if status == -signal.SIGABRT:  # Rust and C++ end so where an allocation fails
            raise CallError(f"it crashed, as where {self._hungry()}")
        raise CallError(f"it crashed: {_signal_name(status)}")

    @property
    def _pause(self) -> float:
        """Seconds between two looks at the child's memory, where the system does not bound it."""
        return float("inf") if sys.platform == "linux" else 0.05

    def _hungry(self) -> str:
        return f"it needs more than {self._memory // MIB} MiB of memory"

    def _reply(self, largest: int) -> Any:
        """The next reply; None once the child is gone."""
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
        module: whose functions are called.
        memory: bytes of address space.
    """
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _limit(memory)
    from importlib import import_module

    functions = import_module(module)
    _send(answers, ["ok", None])
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        seconds, largest, name, *arguments = json.loads(source.read(_LENGTH.unpack(head)[0]))
        with suppress(AttributeError):  # Windows has no such timer: the parent watches
            signal.setitimer(signal.ITIMER_REAL, seconds + MARGIN)  # ends what holds Python's lock
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
    except BaseException as error:  # also panics of Rust, which are no Exceptions
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


def _limit(memory: int) -> None:
    """Bound this process for good. A system without such limits is watched by the parent."""
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
