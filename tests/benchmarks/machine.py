"""On what, and with which versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    *("llmscope", "torch", "transformers", "textual", "typer", "numpy"),
    *("transformer-lens", "nnsight", "bertviz", "circuitsvis"),
)


def about(device: str, threads: int) -> dict[str, Any]:
    """The machine and the versions, for the report."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "threads": threads,
        "memory": psutil.virtual_memory().total,
        "device": _gpu() if device != "cpu" else "cpu",
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in PACKAGES},
    }


def cores() -> int:
    """Physical ones."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str:
    import torch

    return str(torch.cuda.get_device_name())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
