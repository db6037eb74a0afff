"""What this machine has to run models on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import psutil
import torch

from llmscope.models.loading.device import choose_device, default_threads
from llmscope.text import told


@dataclass(frozen=True)
class Device:
    """A place where a model can run.

    Attributes:
        name: what `--device` takes.
        kind: what it is, in words.
        total, free: bytes of memory; None where the system does not tell.
        note: why it cannot be used; empty if it can.
    """

    name: str
    kind: str
    total: int | None = None
    free: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Hardware:
    """Devices, the one that `--device auto` takes, cores, and torch's threads."""

    devices: tuple[Device, ...]
    auto: str
    cores: int
    threads: int
    cuda: str | None


def hardware() -> Hardware:
    """Look at the machine. A device that does not answer is listed with the reason."""
    memory = psutil.virtual_memory()
    kind = platform.processor() or platform.machine()
    devices = [Device("cpu", kind, memory.total, memory.available)]
    if torch.cuda.is_available():
        devices += [_cuda(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(Device("mps", "Apple GPU", torch.mps.recommended_max_memory()))
    return Hardware(
        tuple(devices),
        str(choose_device("auto")),
        os.cpu_count() or 1,
        default_threads(),
        torch.version.cuda,
    )


def _cuda(index: int) -> Device:
    name, kind = f"cuda:{index}", "CUDA"
    try:
        kind = torch.cuda.get_device_name(index)
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # another program may hold it for itself alone
        return Device(name, kind, note=told(error))
    return Device(name, kind, total, free)
