"""Where a model runs, in which numbers, and on how many threads."""

from __future__ import annotations

import torch

from llmscope.arguments import MOST_THREADS, quoted
from llmscope.errors import ScopeError
from llmscope.text import display_text

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TINY = 5_000_000  # parameters below which a second thread costs more than it gives
_default_threads = torch.get_num_threads()


def choose_device(name: str) -> torch.device:
    """The device of a name: auto, spread, cpu, cuda, cuda:N or mps.

    Auto: cuda, else mps, else cpu. Spread has its main device there too.

    Raises:
        ScopeError: there is no such device here.
    """
    if name in ("auto", "spread"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _no_device(name) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise _no_device(name)
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise _no_device(name)
    elif device.type != "cpu":
        raise _no_device(name)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The dtype of a name; None for the checkpoint's own.

    Auto is float32 on a CPU, where half precision is slow and moves logits by tenths, and the
    checkpoint's own elsewhere.

    Raises:
        ScopeError: there is no such dtype.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else None
    if name not in DTYPES:
        raise ScopeError(f"there is no dtype {display_text(name)!r}", "auto, " + ", ".join(DTYPES))
    return DTYPES[name]


def set_threads(threads: int | None, parameters: int) -> None:
    """Give torch so many threads; None: one for a tiny model, torch's own choice for others.

    Raises:
        ScopeError: fewer than one.
    """
    if threads is None:
        threads = 1 if parameters < TINY else _default_threads
    torch.set_num_threads(threads)


def default_threads() -> int:
    """How many threads a model that is not tiny gets."""
    return _default_threads


def set_default_threads(threads: int) -> None:
    """Give a model that is not tiny so many from now on."""
    global _default_threads
    _default_threads = threads


def check_threads(threads: int | None) -> None:
    """Raise ScopeError unless `threads` is None or from 1 to `MOST_THREADS`."""
    if threads is None:
        return
    if threads < 1:
        raise ScopeError(f"{quoted(threads)} threads cannot run anything", "--threads 1 or more")
    if threads > MOST_THREADS:
        raise ScopeError(
            f"{quoted(threads)} threads are more than this machine can use",
            f"--threads {MOST_THREADS} or fewer; without it, as many as it has cores",
        )


def _no_device(name: str) -> ScopeError:
    here = ["auto", "spread", "cpu"]
    if torch.cuda.is_available():
        here += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        here.append("mps")
    return ScopeError(f"there is no device {display_text(name)!r} here", ", ".join(here))
