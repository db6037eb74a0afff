"""The devices, cores and threads of this machine."""

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
    """A device that can run a model.

    Attributes:
        name: its name for `--device`.
        kind: its description, such as the name of the GPU.
        total, free: bytes of memory; None if unknown.
        note: why it cannot be used; empty if it can.
    """

    name: str
    kind: str
    total: int | None = None
    free: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Hardware:
    """The devices, the choice of `--device auto`, cores, torch threads and CUDA version."""

    devices: tuple[Device, ...]
    auto: str
    cores: int
    threads: int
    cuda: str | None


def hardware() -> Hardware:
    """Return the machine's hardware. An unusable device is listed with the reason."""
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
    except RuntimeError as error:  # another process may use it exclusively
        return Device(name, kind, note=told(error))
    return Device(name, kind, total, free)
