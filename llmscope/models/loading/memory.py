"""When there is not enough memory: how much is needed, how much there is, what would fit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import psutil
import torch

from llmscope.errors import ScopeError
from llmscope.models.files.weight_headers import TensorHeaders, safetensors_headers
from llmscope.text import display_text

WORDS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")
GIB = 2**30
_RESERVE: ContextVar[Callable[[], None] | None] = ContextVar("reserve", default=None)


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
    return ScopeError(
        message,
        f"--device spread, slow but with room on disk, "
        f"or a model of at most {largest / 1e9:.1f} billion parameters",
    )


def free_cache(device: torch.device) -> None:
    """Give back what nothing uses: Python's cycles first, then what torch keeps for reuse."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def check_room(named: str, folder: Path, dtype: torch.dtype | None) -> None:
    """Refuse what cannot fit before it is tried: many systems kill a program that takes too much.

    Weights that stay as they are in the file are mapped and need no memory of their own; those
    that become another dtype do.

    Raises:
        ScopeError: the machine has not enough free memory, swap included.
    """
    count, stored = _parameters(folder)
    converted = dtype is not None and dtype.itemsize != stored
    if dtype is not None and converted and count * dtype.itemsize > _free_with_swap():
        raise does_not_fit(named, folder, dtype, torch.device("cpu"))


def fits(folder: Path, dtype: torch.dtype | None, device: torch.device) -> bool:
    """Whether weights fit on a device, with a tenth of what is free left for what they compute."""
    count, stored = _parameters(folder)
    size = stored if dtype is None else dtype.itemsize
    return count * size <= 0.9 * available(device)


@contextmanager
def reserve(release: Callable[[], None]) -> Iterator[None]:
    """While a model is loaded in this thread: what may be let go of, should it not fit beside that.

    Args:
        release: lets go of it; called at most once.
    """
    token = _RESERVE.set(release)
    try:
        yield
    finally:
        _RESERVE.reset(token)


def make_room(folder: Path, dtype: torch.dtype | None, device: torch.device) -> None:
    """Let go of what may be, if the weights in a folder do not fit otherwise."""
    release = _RESERVE.get()
    if release is not None and not fits(folder, dtype, device):
        _RESERVE.set(None)
        release()


def _free_with_swap() -> int:
    return available(torch.device("cpu")) + int(psutil.swap_memory().free)


def available(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _parameters(folder: Path) -> tuple[int, int]:
    """How many numbers the weights hold, and bytes of one of them, as the files' headers say.

    Zero where a header cannot be read: what is wrong with it is found when it is loaded.
    """
    try:
        files = folder.glob("*.safetensors")
        headers = sum((safetensors_headers(path) for path in files), TensorHeaders())
    except (OSError, ValueError):
        return 0, 0
    return headers.elements, round(headers.bytes / headers.elements) if headers.elements else 0


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
