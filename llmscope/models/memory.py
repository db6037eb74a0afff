"""When there is not enough memory: how much is needed, how much there is, what would fit."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import psutil
import torch

from llmscope.errors import ScopeError
from llmscope.text import display_text

WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
GIB = 2**30


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory ran out; on a CPU torch says so only in words."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def does_not_fit(
    named: str, folder: Path, dtype: torch.dtype | None, device: torch.device
) -> ScopeError:
    """The error of a model that does not fit: what it needs, what there is, what would fit.

    Args:
        folder: where its weights are.
        dtype: what it was to be loaded in; None for the checkpoint's own.
    """
    count, stored = _parameters(folder)
    size = stored if dtype is None else dtype.itemsize
    free = available(device)
    message = f"{display_text(named)} does not fit in the memory of {device}"
    if not count:
        return ScopeError(message, "a smaller model")
    message += f": its weights take {_gib(count * size)}, and {_gib(free)} are free"
    if size > 2 and count * 2 <= free:
        return ScopeError(message, f"--dtype bfloat16, which takes {_gib(count * 2)}")
    if device.type != "cpu" and count * size <= available(torch.device("cpu")):
        return ScopeError(message, "--device cpu")
    largest = free // 2  # parameters at two bytes each
    return ScopeError(message, f"a model of at most {largest / 1e9:.1f} billion parameters")


def available(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _parameters(folder: Path) -> tuple[int, int]:
    """How many numbers the weights hold, and bytes of one of them, as the files' heads say."""
    count = stored = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(length))
        for name, tensor in head.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                count += math.prod(tensor["shape"])
                stored += end - start
    return count, round(stored / count) if count else 0


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
