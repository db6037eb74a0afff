"""The Ray cluster of a batch: the one that RAY_ADDRESS names, or a new one on this machine."""

from __future__ import annotations

import logging
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

from llmscope.errors import ScopeError
from llmscope.models.files.cache import cache_folder
from llmscope.signals import endings
from llmscope.text import display_text

_ADDRESS = "RAY_ADDRESS"
_SOCKET = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""Length of what Ray appends to its folder to name a socket."""
_LONGEST = 107 if sys.platform == "linux" else 103
_WAIT = 10  # seconds for a cluster to answer
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
# A worker without an assigned GPU must see no GPU, or it would take the first that it finds.
_OWN = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_AUTH_MODE": "token"}
# Ray listens on all interfaces and runs any code sent to it, so clients need this token. Without
# it, Ray would write a token to the home folder.
_TOKEN = secrets.token_hex(32)


@dataclass(frozen=True)
class WorkerRequest:
    """The number of workers asked for, and the resources of each; for None see `WorkerShare`.

    Attributes:
        workers: number of workers.
        threads: torch threads of each worker, on a CPU.
        gpus: GPUs of each worker; a fraction lets several share one.
        device: the value of `--device`.
    """

    workers: int | None = None
    threads: int | None = None
    gpus: float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class WorkerShare:
    """The number of workers, and the resources that each of them gets.

    Attributes:
        workers: by default one per GPU (or share of one) in the cluster; without GPUs one per
            machine.
        cpus: as many as threads asked for; by default 1 with a GPU, else `default_threads()`.
        gpus: by default 1 if the cluster has any and `device` allows a GPU.
    """

    workers: int
    cpus: int
    gpus: float


def needed() -> None:
    """Check that Ray Data is installed, without importing it: Ray reads its settings on import.

    Raises:
        ScopeError: Ray Data is not installed.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ScopeError("--engine ray needs Ray Data", "pip install 'ray[data]'")


@contextmanager
def cluster(wanted: WorkerRequest, tell: Callable[[str], None]) -> Iterator[WorkerShare]:
    """Connect to Ray, or start a cluster on this machine, for the duration of the block.

    A cluster that was started here is shut down at the end of the block.

    Args:
        wanted: the workers asked for.
        tell: called with a note for the user.

    Raises:
        ScopeError: Ray is not installed, cannot be reached, or has no machine with the resources
            asked for.
    """
    given = os.environ.get(_ADDRESS, "")
    if given.startswith("ray://"):
        raise ScopeError(
            f"{_ADDRESS} is of a Ray client",
            "a command on a machine of the cluster, with HOST:PORT",
        )
    own = given in ("", "local")
    with ExitStack() as stack:
        stack.enter_context(_environment(own))
        needed()
        import ray

        _silence()
        # Ray prints to stdout why its processes died; the batch itself writes nothing to stdout.
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        options: dict[str, Any] = {"address": "local" if own else None}
        if own:
            options["_temp_dir"] = str(stack.enter_context(own_folder(tell)))
            options["num_cpus"] = _cpus(wanted)
            options["include_dashboard"] = False
        stack.callback(ray.shutdown)
        try:
            if not own:
                _knock(given)
            with _deaf(), _own_signals():
                ray.init(**options, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            where = "start Ray" if own else f"reach the Ray cluster at {display_text(given)[:100]}"
            reason = display_text(str(error).strip().partition("\n")[0])[:200]
            hint = "--engine local" if own else f"another {_ADDRESS}"
            raise ScopeError(f"cannot {where}: {reason}", hint) from error
        yield place_on(ray.nodes(), wanted)


def place_on(nodes: list[dict[str, Any]], wanted: WorkerRequest) -> WorkerShare:
    """Return the resources of each worker on the machines that `ray.nodes()` lists.

    Raises:
        ScopeError: no machine has room for a worker.
    """
    machines = [one["Resources"] for one in nodes if one["Alive"]]
    gpus = wanted.gpus
    if gpus is None:
        some = any(one.get("GPU", 0) >= 1 for one in machines)
        gpus = 1 if some and wanted.device not in ("cpu", "mps") else 0
    cpus = wanted.threads or (1 if gpus else _threads())
    fits = [
        int(min(one.get("CPU", 0) // cpus, one.get("GPU", 0) / gpus if gpus else 1e9))
        for one in machines
    ]
    if not any(fits):
        what = f"CPUs: {cpus}" + (f", GPUs: {gpus:g}" if gpus else "")
        raise ScopeError(
            f"no machine of the Ray cluster has room for a worker ({what})",
            "other --threads or --gpus-per-worker",
        )
    usual = sum(fits) if gpus else sum(map(bool, fits))
    return WorkerShare(wanted.workers or usual, cpus, gpus)


def _threads() -> int:
    from llmscope.models.loading.device import default_threads

    return default_threads()


def _cpus(wanted: WorkerRequest) -> int:
    """Return the CPUs of a new local cluster: this machine's, or more if more were asked for."""
    return max(os.cpu_count() or 1, (wanted.workers or 1) * (wanted.threads or _threads()))


@contextmanager
def _environment(own: bool) -> Iterator[None]:
    """Set variables that keep Ray quiet and turn its usage reports off, unless already set."""
    wanted = dict(_QUIET)
    if own:
        wanted |= _OWN
        if "RAY_AUTH_MODE" not in os.environ:
            wanted["RAY_AUTH_TOKEN"] = _TOKEN
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _silence() -> None:
    """Turn off Ray's log lines and progress bars: failures come back as exceptions."""
    import ray.data

    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _knock(address: str) -> None:
    """Raise an OSError unless the address accepts connections: Ray would wait many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_WAIT).close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Send the process's stderr to the null device: Ray announces there that it will be quiet."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep llmscope's signal handlers: Ray would install its own for SIGTERM."""
    kept, ours = signal.signal, {number: signal.getsignal(number) for number in endings()}

    def set_others(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in ours else kept(number, handler)

    signal.signal = set_others  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = kept
        if threading.current_thread() is threading.main_thread():
            for number, handler in ours.items():  # Ray's native code sets one too
                signal.signal(number, handler)


@contextmanager
def own_folder(tell: Callable[[str], None]) -> Iterator[Path]:
    """Yield a folder for Ray's sockets and logs, which are removed after the block.

    Args:
        tell: called with a note if the cache folder's path is too long for sockets.

    Raises:
        ScopeError: the cache folder cannot be written.
    """
    # Machines may share the cache folder, and cannot tell whether each other's processes are alive.
    machine = crc32(platform.node().encode()) & 0xFFFF
    wanted = cache_folder() / f"ray-{machine:04x}"
    if len(os.fsencode(wanted)) + _SOCKET > _LONGEST:
        root = "/tmp" if os.name == "posix" else None  # noqa: S108 — TMPDIR may be long as well
        short = Path(tempfile.mkdtemp(prefix="llmscope-", dir=root))
        tell(f"the path of the cache folder is too long for sockets: Ray's files are in {short}")
        try:
            yield short
        finally:
            shutil.rmtree(short, ignore_errors=True)
        return
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = display_text(error.strerror or str(error))
        raise ScopeError(f"cannot write the cache: {reason}", "LLMSCOPE_CACHE=FOLDER") from error
    _tidy(wanted)
    try:
        yield wanted
    finally:
        _tidy(wanted, os.getpid())


def _tidy(folder: Path, own: int | None = None) -> None:
    """Remove the session folders of process `own` (if given) and of processes that are gone."""
    from psutil import pid_exists

    for session in folder.glob("session_2*"):
        found = re.search(r"_(\d+)$", session.name)
        if found and (int(found[1]) == own or not pid_exists(int(found[1]))):
            shutil.rmtree(session, ignore_errors=True)
