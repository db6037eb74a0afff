"""A Ray cluster to work on: the one that RAY_ADDRESS names, or one of this machine's own."""

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
"""What Ray puts behind its folder to name a socket."""
_LONGEST = 107 if sys.platform == "linux" else 103
_WAIT = 10  # seconds for a cluster to answer
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
# Without a GPU of its own a worker must see none, or it would take the first that it finds.
_OWN = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_AUTH_MODE": "token"}
# Ray listens on all interfaces, and runs what it is told: only who knows this is let in. Without
# it Ray would write one to the home folder.
_TOKEN = secrets.token_hex(32)


@dataclass(frozen=True)
class WorkerRequest:
    """How many workers, and what each of them needs; None: as `WorkerShare` says.

    Attributes:
        threads: of torch, on a CPU.
        gpus: of each worker; a fraction lets several share one.
        device: as `--device` says it.
    """

    workers: int | None = None
    threads: int | None = None
    gpus: float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class WorkerShare:
    """What every worker gets.

    Attributes:
        workers: one for each GPU, or share of one, that there is; without GPUs one a machine.
        cpus: as many as threads; one beside a GPU.
        gpus: one if the cluster has any and the device may be one.
    """

    workers: int
    cpus: int
    gpus: float


def needed() -> None:
    """Nothing, if Ray Data is installed. Imports nothing: Ray reads its settings when it is.

    Raises:
        ScopeError: it is not.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise ScopeError("--engine ray needs Ray Data", "pip install 'ray[data]'")


@contextmanager
def cluster(wanted: WorkerRequest, tell: Callable[[str], None]) -> Iterator[WorkerShare]:
    """Ray, from here to the end of the block. A cluster of its own ends with it.

    Raises:
        ScopeError: Ray is not installed, cannot be reached, or has no machine with what is wanted.
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
        # Ray prints there what its processes die of; the batch writes nothing there.
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
    """What workers get on machines as `ray.nodes()` tells of them.

    Raises:
        ScopeError: no machine has room for one.
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
    """What a cluster of its own may hand out: this machine's, and more if more was asked for."""
    return max(os.cpu_count() or 1, (wanted.workers or 1) * (wanted.threads or _threads()))


@contextmanager
def _environment(own: bool) -> Iterator[None]:
    """Ray says nothing and reports to nobody; a person's own choices stay."""
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
    """None of Ray's lines reach the terminal: what matters comes back as an error."""
    import ray.data

    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _knock(address: str) -> None:
    """Whether anybody is there: Ray itself would wait for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_WAIT).close()


@contextmanager
def _deaf() -> Iterator[None]:
    """Nothing of the process reaches stderr: Ray tells there that it will be quiet."""
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
    """Ray would take SIGTERM for itself; how a command ends is ours to say."""
    kept, ours = signal.signal, {number: signal.getsignal(number) for number in endings()}

    def set_others(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in ours else kept(number, handler)

    signal.signal = set_others  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = kept
        if threading.current_thread() is threading.main_thread():
            for number, handler in ours.items():  # its native part has one too
                signal.signal(number, handler)


@contextmanager
def own_folder(tell: Callable[[str], None]) -> Iterator[Path]:
    """Where Ray keeps its sockets and logs, which are gone after the block."""
    # Machines may share the cache folder, and know nothing of each other's processes.
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
    """Remove the files of this process, or of those that were killed."""
    from psutil import pid_exists

    for session in folder.glob("session_2*"):
        found = re.search(r"_(\d+)$", session.name)
        if found and (int(found[1]) == own or not pid_exists(int(found[1]))):
            shutil.rmtree(session, ignore_errors=True)
