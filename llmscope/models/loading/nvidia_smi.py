"""What NVIDIA's driver tells: its version, its GPUs, and the processes on them.

The answers are those of `nvidia-smi`, which comes with the driver. NVML tells the same through
`nvidia-ml-py`, but that is one more package to keep in step with the driver, and a library that
hangs cannot be given up, while a program can. Works without torch.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from shutil import which

from llmscope.support.text import one_line

PROGRAM = "nvidia-smi"
WSL = "/usr/lib/wsl/lib/nvidia-smi"
"""Where Windows puts it for Linux; not on the path of every shell."""
SECONDS = 10.0
"""Seconds that all its answers may take. Without persistence mode it first wakes the GPUs."""
FIELDS = ("index", "uuid", "memory.total", "memory.used", "memory.free", "driver_version")
NEWER = ("compute_cap", "mig.mode.current")
"""Fields that old drivers do not know; they answer nothing if one of those is asked for."""
APPS = ("gpu_uuid", "pid", "used_memory", "process_name")
MIB = 1 << 20
IDLE = 512 * MIB
"""Bytes that the driver itself may hold on an idle GPU."""
LONGEST = 1 << 20
"""Characters of an answer that are read."""
NAME = 100
"""Maximum characters of a name."""
_UUID = re.compile(r"(?:GPU|MIG)-[A-Za-z0-9/-]{1,80}")
_UNKNOWN_FIELD = re.compile(r'Field "[^"]*" is not a valid field to query')
_NO_PROCESSES = "No running processes found"
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d{1,3}\.\d{1,3})")
_GPU_LINE = re.compile(r"GPU \d+: .*\(UUID: (GPU-[A-Za-z0-9-]{1,80})\)")
_MIG_LINE = re.compile(r"\s*MIG (\S+)\s+Device\s+(\d{1,4}): \(UUID: (MIG-[A-Za-z0-9/-]{1,80})\)")


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU, with the bytes that it takes there; None if the system does not tell."""

    pid: int
    name: str
    bytes: int | None


@dataclass(frozen=True)
class MigDevice:
    """A part of a GPU that is used like a GPU of its own: its profile, such as `1g.10gb`."""

    index: int
    profile: str
    uuid: str


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver tells.

    Attributes:
        index: its number in nvidia-smi, which is not always that of torch.
        uuid, name: of the GPU.
        total, used, free: bytes of memory; None if the driver does not tell.
        capability: the compute capability, such as `9.0`; None if the driver is too old to tell.
        mig: whether it is divided into MIG devices; None if it cannot be.
        mig_devices: those.
        processes: the processes on it; None if they cannot be seen, as in a container.
    """

    index: int
    uuid: str
    name: str
    total: int | None = None
    used: int | None = None
    free: int | None = None
    capability: str | None = None
    mig: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True)
class Driver:
    """What the driver tells.

    Attributes:
        version: of the driver; None if it does not answer.
        cuda: the highest version of CUDA that it supports; None if untold.
        gpus: its GPUs.
        error: why it does not answer; empty if it does.
    """

    version: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    error: str = ""


class SmiCalls:
    """The calls of nvidia-smi, which run from the beginning and are waited for by `answer`.

    Args:
        program: the path of nvidia-smi; None on a machine without it.
        seconds: the time that all calls may take.
    """

    def __init__(self, program: str | None, seconds: float = SECONDS) -> None:
        self._program, self._seconds = program, seconds
        self._end = time.monotonic() + seconds
        self._calls: dict[str, subprocess.Popen[bytes]] = {}
        self._error = ""
        self._told: Driver | None = None
        if program is not None:
            self._begin("gpus", _query("gpu", (*FIELDS, *NEWER, "name")))
            self._begin("apps", _query("compute-apps", APPS))
            self._begin("table", ())

    def answer(self) -> Driver | None:
        """Wait, and return what the driver tells; None without nvidia-smi."""
        if self._program is not None and self._told is None:
            self._told = self._answer()
        return self._told

    def _answer(self) -> Driver:
        known: tuple[str, ...] = NEWER
        answer = self._read("gpus")
        if answer is not None and _UNKNOWN_FIELD.search(answer[1]):
            known = ()
            self._begin("old", _query("gpu", (*FIELDS, "name")))
            answer = self._read("old")
        apps, table = self._read("apps"), self._read("table")
        if answer is None:
            self._give_up()
            return Driver(error=self._error)
        code, text = answer
        gpus, version = read_gpus(text, (*FIELDS, *known, "name")) if code == 0 else ((), None)
        if not gpus:
            failed = one_line(text) or f"nvidia-smi ended with {code}"
            return Driver(error=failed if code else "nvidia-smi tells of no GPU")
        head = "" if table is None else table[1]
        listed = None if apps is None or apps[0] else read_processes(apps[1])
        if any(gpu.mig for gpu in gpus):
            self._begin("list", ("-L",))
            parts = self._read("list")
            devices = {} if parts is None else read_mig_devices(parts[1])
            gpus = tuple(replace(gpu, mig_devices=devices.get(gpu.uuid, ())) for gpu in gpus)
        gpus = with_processes(gpus, listed, none_running=_NO_PROCESSES in head)
        cuda = _CUDA.search(head)
        return Driver(version, cuda[1] if cuda else None, gpus)

    def _begin(self, name: str, arguments: Iterable[str]) -> None:
        try:
            self._calls[name] = subprocess.Popen(  # noqa: S603 - no shell, and fixed arguments
                [str(self._program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self._error = f"nvidia-smi cannot be run: {one_line(error.strerror or str(error))}"

    def _read(self, name: str) -> tuple[int, str] | None:
        """Return a call's exit code and output; None if it could not be run, or took too long."""
        call = self._calls.pop(name, None)
        if call is None:
            return None
        try:
            output, _ = call.communicate(timeout=max(self._end - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            self._calls[name] = call
            self._give_up()
            self._error = f"nvidia-smi did not answer within {self._seconds:g} s"
            return None
        return call.returncode, output[:LONGEST].decode("utf-8", "replace")

    def _give_up(self) -> None:
        """Kill the calls, and do not wait: one that waits for a broken GPU does not end then."""
        for call in self._calls.values():
            with suppress(OSError):
                call.kill()
        self._calls.clear()


def ask(seconds: float = SECONDS) -> SmiCalls:
    """Start to ask the driver; `answer` waits for what it tells."""
    return SmiCalls(which(PROGRAM) or which(WSL), seconds)


def read_gpus(text: str, fields: tuple[str, ...]) -> tuple[tuple[Gpu, ...], str | None]:
    """Return the GPUs of an answer, and the driver's version; lines of other forms are skipped.

    Args:
        text: comma separated values without units, one line a GPU.
        fields: the names of the values; the name of the GPU is the last, as it may hold commas.
    """
    gpus: list[Gpu] = []
    version: str | None = None
    for row in _rows(text, fields):
        index = _number(row["index"])
        if index is None or not _UUID.fullmatch(row["uuid"]):
            continue
        capability = row.get("compute_cap", "")
        mode = row.get("mig.mode.current", "")
        gpus.append(
            Gpu(
                index,
                row["uuid"],
                _name(row["name"]),
                _bytes(row["memory.total"]),
                _bytes(row["memory.used"]),
                _bytes(row["memory.free"]),
                capability if re.fullmatch(r"\d{1,3}\.\d{1,3}", capability) else None,
                {"Enabled": True, "Disabled": False}.get(mode),
            )
        )
        match = re.fullmatch(r"\d[\d.]{0,30}", row["driver_version"])
        version = version or (match[0] if match else None)
    return tuple(gpus), version


def read_processes(text: str) -> dict[str, tuple[GpuProcess, ...]]:
    """Return the processes of an answer by the UUID of their GPU; other lines are skipped."""
    processes: dict[str, tuple[GpuProcess, ...]] = {}
    for row in _rows(text, APPS):
        pid = _number(row["pid"])
        if pid is not None and _UUID.fullmatch(row["gpu_uuid"]):
            process = GpuProcess(pid, _name(row["process_name"]), _bytes(row["used_memory"]))
            processes[row["gpu_uuid"]] = (*processes.get(row["gpu_uuid"], ()), process)
    return processes


def with_processes(
    gpus: tuple[Gpu, ...],
    listed: Mapping[str, tuple[GpuProcess, ...]] | None,
    *,
    none_running: bool,
) -> tuple[Gpu, ...]:
    """Return the GPUs with the processes on them.

    An empty list may mean an idle GPU, or that the processes of others are hidden, as in a
    container: the driver knows them by numbers of the host alone. Only a GPU whose memory is free
    has none.

    Args:
        gpus: the GPUs.
        listed: their processes by UUID; None: those could not be read.
        none_running: whether the driver says in words that no process runs.
    """
    if listed is None:
        return gpus
    gpus_with = []
    for gpu in gpus:
        places = (gpu.uuid, *(device.uuid for device in gpu.mig_devices))
        processes = tuple(process for place in places for process in listed.get(place, ()))
        idle = bool(none_running or listed) and gpu.used is not None and gpu.used < IDLE
        gpus_with.append(replace(gpu, processes=processes if processes or idle else None))
    return tuple(gpus_with)


def read_mig_devices(text: str) -> dict[str, tuple[MigDevice, ...]]:
    """Return the MIG devices in the answer of `nvidia-smi -L`, by the UUID of their GPU."""
    devices: dict[str, tuple[MigDevice, ...]] = {}
    gpu = ""
    for line in text.splitlines():
        of_gpu, part = _GPU_LINE.match(line), _MIG_LINE.match(line)
        if of_gpu:
            gpu = of_gpu[1]
        elif part and gpu:
            device = MigDevice(int(part[2]), _name(part[1]), part[3])
            devices[gpu] = (*devices.get(gpu, ()), device)
    return devices


def _query(what: str, fields: Iterable[str]) -> tuple[str, str]:
    return f"--query-{what}={','.join(fields)}", "--format=csv,noheader,nounits"


def _rows(text: str, fields: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the values of each line by field, without those lines that have too few."""
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",", len(fields) - 1)]
        if len(values) == len(fields):
            yield dict(zip(fields, values, strict=True))


def _number(text: str) -> int | None:
    """Return an integer; None for `[N/A]`, `[Not Supported]` and whatever else is no number."""
    return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None


def _bytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else number * MIB


def _name(text: str) -> str:
    return one_line(text, NAME)
