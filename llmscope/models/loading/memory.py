"""Memory checks: how much a model needs, how much is free, and what would fit."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import psutil
import torch

from llmscope.errors import OutOfMemory, ScopeError, option
from llmscope.models.files.weight_headers import TensorHeaders, safetensors_headers
from llmscope.models.loading.container_memory import allowance
from llmscope.support.text import display_text

WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
GIB = 2**30
SHARE = 0.9
"""The share of free memory that weights may take; the rest is for activations and a cache."""
BITS = {"float32": 32.0, "bfloat16": 16.0, "8 bit": 8.0, "4 bit": 4.5}
"""Bits that a parameter takes. In 4 bits, 64 numbers share a scale in float32, as in nf4."""
_RESERVE: ContextVar[Callable[[], None] | None] = ContextVar("reserve", default=None)
_SECOND: ContextVar[bool] = ContextVar("second", default=False)


def ran_out(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; for a CPU torch only says so in text."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def does_not_fit(
    named: str, folder: Path, dtype: torch.dtype | None, device: torch.device
) -> ScopeError:
    """Return the error for a model that does not fit: memory needed, memory free, what would fit.

    Args:
        named: the user's name for the model.
        folder: the folder of its weights.
        dtype: the dtype to load it in; None for the checkpoint's own.
        device: the device that it does not fit on.
    """
    count, stored = _parameters(folder)
    size = stored if dtype is None else dtype.itemsize
    free = available(device)
    message = f"{display_text(named)} does not fit in the memory of {device}"
    if not count:
        return ScopeError(message, "a smaller model")
    message += f": its weights take {gibibytes(count * size)}, and {gibibytes(free)} are free"
    if size > 2 and count * 2 <= room(free):
        return ScopeError(
            message, f"{option('dtype', 'bfloat16')}, which takes {gibibytes(count * 2)}"
        )
    if device.type != "cpu" and count * size <= room(available(torch.device("cpu"))):
        return ScopeError(message, option("device", "cpu"))
    largest = most_parameters(free, BITS["bfloat16"])
    return ScopeError(
        message,
        f"{option('device', 'spread')}, slow but with room on disk, "
        f"or a model of at most {largest / 1e9:.1f} billion parameters",
    )


def free_cache(device: torch.device) -> None:
    """Free unused memory: first Python's reference cycles, then torch's memory cache."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def enough_memory(
    device: torch.device, release: Callable[[], None] | None = None
) -> Iterator[None]:
    """Turn memory that runs out within into one line, once what ran within is freed.

    Args:
        device: the device that it runs on.
        release: frees more; called only where memory ran out.

    Raises:
        OutOfMemory: memory ran out.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, ScopeError) or not ran_out(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the pass
        if release is not None:
            release()
        free_cache(device)
        raise out_of_memory(device) from None


def out_of_memory(device: torch.device) -> OutOfMemory:
    """Return the error for a pass that does not fit on a device."""
    return OutOfMemory(
        f"out of memory on {device}", f"a shorter prompt, or a smaller {option('dtype')}"
    )


def check_room(named: str, folder: Path, dtype: torch.dtype | None) -> None:
    """Refuse a model that cannot fit, because many systems kill a program that takes too much.

    Weights that keep the file's dtype are memory-mapped and need no further memory; weights that
    are converted to another dtype do.

    Raises:
        ScopeError: the machine does not have enough free memory, including swap.
    """
    count, stored = _parameters(folder)
    converted = dtype is not None and dtype.itemsize != stored
    if dtype is not None and converted and count * dtype.itemsize > _free_with_swap():
        raise does_not_fit(named, folder, dtype, torch.device("cpu"))


def fits(folder: Path, dtype: torch.dtype | None, device: torch.device) -> bool:
    """Return whether weights fit on a device with a tenth of its free memory left to compute."""
    return weight_bytes(folder, dtype) <= room(available(device))


def room(free: int) -> int:
    """Return the bytes that weights may take of the free ones."""
    return int(SHARE * free)


def most_parameters(free: int, bits: float) -> int:
    """Return the parameters of the largest model whose weights fit into the room of free bytes.

    Args:
        free: the free bytes of a device.
        bits: the bits of a parameter.
    """
    return int(room(free) * 8 // bits)


def weight_bytes(folder: Path, dtype: torch.dtype | None) -> int:
    """Return the bytes of the weights in a folder; 0 if a header cannot be read.

    Args:
        folder: the folder.
        dtype: the dtype to load them in; None for the checkpoint's own.
    """
    count, stored = _parameters(folder)
    return count * (stored if dtype is None else dtype.itemsize)


@contextmanager
def reserve(release: Callable[[], None]) -> Iterator[None]:
    """Offer memory to a model that loads in this thread, in case it does not fit otherwise.

    Args:
        release: frees the memory; called at most once.
    """
    token = _RESERVE.set(release)
    try:
        yield
    finally:
        _RESERVE.reset(token)


@contextmanager
def beside() -> Iterator[None]:
    """Refuse a model that loads in this thread unless it fits beside the one that is loaded."""
    token = _SECOND.set(True)
    try:
        yield
    finally:
        _SECOND.reset(token)


def make_room(named: str, folder: Path, dtype: torch.dtype | None, device: torch.device) -> None:
    """Release the reserve if the weights in a folder do not fit otherwise.

    Raises:
        ScopeError: they are of a second model, and do not fit beside the first; see `beside`.
    """
    release = _RESERVE.get()
    if release is not None and not fits(folder, dtype, device):
        _RESERVE.set(None)
        release()
    if _SECOND.get() and not fits(folder, dtype, device):
        raise ScopeError(
            does_not_fit(named, folder, dtype, device).message,
            "llmscope compare A B --prompts FILE, which runs one after the other, or a smaller "
            f"{option('versus-dtype')}, or another {option('versus-device')}",
        )


def _free_with_swap() -> int:
    free = available(torch.device("cpu"))
    # A group's swap has a limit of its own, which is mostly nothing.
    limited = allowance(psutil.virtual_memory().total) is not None
    return free if limited else free + int(psutil.swap_memory().free)


def available(device: torch.device) -> int:
    """Return the free bytes of a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    memory = psutil.virtual_memory()
    within = allowance(memory.total)
    return int(memory.available if within is None else min(memory.available, within.free))


def _parameters(folder: Path) -> tuple[int, int]:
    """Return the number of weight elements and the bytes per element, from the files' headers.

    Both are 0 if a header cannot be read; loading reports the error.
    """
    try:
        files = folder.glob("*.safetensors")
        headers = sum((safetensors_headers(path) for path in files), TensorHeaders())
    except (OSError, ValueError):
        return 0, 0
    return headers.elements, round(headers.bytes / headers.elements) if headers.elements else 0


def gibibytes(size: float) -> str:
    """Return bytes in GiB, as text."""
    return f"{size / GIB:.1f} GiB"
