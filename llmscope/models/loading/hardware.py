"""The devices, cores and threads of this machine, and what each device can run."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from llmscope.models.loading.container_memory import allowance
from llmscope.models.loading.device import DTYPES, choose_device, default_threads
from llmscope.models.loading.memory import BITS, most_parameters
from llmscope.models.loading.nvidia_smi import Driver, Gpu
from llmscope.support.text import error_line

NATIVE_BFLOAT16 = TF32 = (8, 0)
"""The least compute capability of NVIDIA's GPUs that have both, Ampere's."""
NATIVE_FLOAT16 = (5, 3)


@dataclass(frozen=True)
class Device:
    """A device that can run a model.

    Attributes:
        name: its name for `--device`.
        kind: its description, such as the name of the GPU.
        total, free: bytes of memory; None if unknown.
        note: why it cannot be used; empty if it can.
        capability: the compute capability of NVIDIA's GPUs, such as `9.0`; None for others.
        dtypes: how each dtype runs: native, slow or emulated; empty if unknown.
        tf32: whether float32 products are rounded to TF32; None where there is no TF32.
        fits: by number format, the parameters of the largest model whose weights fit in what is
            free, with room to compute; empty if that is unknown.
        gpu: its number in nvidia-smi; None if it is not found there.
    """

    name: str
    kind: str
    total: int | None = None
    free: int | None = None
    note: str = ""
    capability: str | None = None
    dtypes: dict[str, str] = field(default_factory=dict)
    tf32: bool | None = None
    fits: dict[str, int] = field(default_factory=dict)
    gpu: int | None = None


@dataclass(frozen=True)
class Hardware:
    """The devices, the choice of `--device auto`, cores, torch threads, CUDA and ROCm versions.

    Attributes:
        cuda, rocm: the version that torch was built with; None if it was built without.
    """

    devices: tuple[Device, ...]
    auto: str
    cores: int
    threads: int
    cuda: str | None
    rocm: str | None = None


def hardware(driver: Driver | None = None) -> Hardware:
    """Return the machine's hardware. An unusable device is listed with the reason.

    Args:
        driver: what NVIDIA's driver tells; None without one.
    """
    memory = psutil.virtual_memory()
    within = allowance(memory.total)
    total, free = int(memory.total), int(memory.available)
    if within is not None:
        total, free = within.total, min(free, within.free)
    kind = platform.processor() or platform.machine()
    # Half precision runs on every CPU, and slowly on most.
    numbers = {name: "native" if name == "float32" else "slow" for name in DTYPES}
    cpu = Device("cpu", kind, total, free, dtypes=numbers, fits=_fits(free))
    devices = [cpu]
    if torch.cuda.is_available():
        gpus = () if driver is None else driver.gpus
        devices += [_cuda(index, gpus) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        recommended = torch.mps.recommended_max_memory()
        fits = _fits(min(recommended, free))  # it shares the memory of the CPU
        devices.append(
            Device("mps", "Apple GPU", recommended, dtypes=_try_dtypes("mps"), fits=fits)
        )
    return Hardware(
        tuple(devices),
        str(choose_device("auto")),
        os.cpu_count() or 1,
        default_threads(),
        torch.version.cuda,
        torch.version.hip,
    )


def _cuda(index: int, gpus: tuple[Gpu, ...]) -> Device:
    name, kind = f"cuda:{index}", "CUDA"
    try:
        kind = torch.cuda.get_device_name(index)
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # another process may use it exclusively
        return Device(name, kind, note=error_line(error))
    if torch.version.hip is not None:  # numbers of AMD's architectures mean something else
        return Device(name, kind, total, free, dtypes=_try_dtypes(name), fits=_fits(free))
    with suppress(RuntimeError):
        capability = torch.cuda.get_device_capability(index)
        return Device(
            name,
            kind,
            total,
            free,
            capability=".".join(map(str, capability)),
            dtypes={
                "float32": "native",
                "bfloat16": "native" if capability >= NATIVE_BFLOAT16 else "emulated",
                "float16": "native" if capability >= NATIVE_FLOAT16 else "emulated",
            },
            tf32=_rounds_to_tf32() if capability >= TF32 else None,
            fits=_fits(free),
            gpu=_in_driver(index, gpus),
        )
    return Device(name, kind, total, free, fits=_fits(free))


def _fits(free: int) -> dict[str, int]:
    return {name: most_parameters(free, bits) for name, bits in BITS.items()}


def _try_dtypes(device: str) -> dict[str, str]:
    """Return the dtypes that a device can compute in, tried with one product."""
    dtypes = {}
    for name, dtype in DTYPES.items():
        with suppress(RuntimeError, TypeError):
            unit = torch.ones(1, 1, dtype=dtype, device=device)
            dtypes[name] = "native" if float((unit @ unit)[0, 0]) == 1.0 else "slow"
    return dtypes


def _rounds_to_tf32() -> bool:
    """Return whether products in float32 are rounded to TF32, which llmscope leaves as it is."""
    forced = os.environ.get("NVIDIA_TF32_OVERRIDE", "")
    if forced in ("0", "1"):
        return forced == "1"
    precision = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if precision is not None:
        return bool(precision == "tf32")
    return torch.get_float32_matmul_precision() != "highest"


def _in_driver(index: int, gpus: tuple[Gpu, ...]) -> int | None:
    """Return the number of torch's GPU in nvidia-smi, which may count in another order."""
    properties: Any = torch.cuda.get_device_properties(index)
    uuid = str(getattr(properties, "uuid", "")).lower()
    for gpu in gpus:
        uuids = (gpu.uuid, *(device.uuid for device in gpu.mig_devices))
        if uuid and any(known_uuid.lower().endswith(uuid) for known_uuid in uuids):
            return gpu.index
    return gpus[0].index if len(gpus) == 1 and torch.cuda.device_count() == 1 else None
