"""Choose the device, dtype and number of threads of a model."""

from __future__ import annotations

import torch

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.support.arguments import MOST_THREADS, quote_value
from llmscope.support.dtypes import WAYS, dtype_name
from llmscope.support.text import display_text

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TINY = 5_000_000  # below this many parameters a second thread slows the model down
_default_threads = torch.get_num_threads()


def choose_device(name: str) -> torch.device:
    """Return the device for a name: auto, spread, cpu, cuda, cuda:N or mps.

    Auto means cuda, else mps, else cpu; so does the main device of spread.

    Raises:
        ScopeError: this machine has no such device.
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
    """Return the dtype for a name or an alias; None means the checkpoint's own.

    Auto is float32 on a CPU, where half precision is slow and shifts logits by tenths, and the
    checkpoint's own dtype elsewhere.

    Raises:
        ScopeError: the dtype is unknown.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else None
    dtype = DTYPES.get(dtype_name(name))
    if dtype is None:
        raise WrongUseError(f"there is no dtype {display_text(name)!r}", WAYS)
    return dtype


def threads_for(threads: int | None, parameters: int) -> int:
    """Return the number of torch threads for the passes of a model.

    Args:
        threads: the number; None means one for a tiny model, and the default for others.
        parameters: the number of parameters of the model; below `TINY` it is tiny.
    """
    if threads is not None:
        return threads
    return 1 if parameters < TINY else _default_threads


def default_threads() -> int:
    """Return the number of threads for a model that is not tiny."""
    return _default_threads


def set_default_threads(threads: int) -> None:
    """Set the number of threads for models that are not tiny."""
    global _default_threads
    _default_threads = threads


def check_threads(threads: int | None) -> None:
    """Raise ScopeError unless `threads` is None or from 1 to `MOST_THREADS`."""
    if threads is None:
        return
    if threads < 1:
        raise WrongUseError(
            f"{quote_value(threads)} threads cannot run anything", f"{option('threads', 1)} or more"
        )
    if threads > MOST_THREADS:
        raise WrongUseError(
            f"{quote_value(threads)} threads are more than this machine can use",
            f"{option('threads', MOST_THREADS)} or fewer; without it, as many as it has cores",
        )


def _no_device(name: str) -> ScopeError:
    here = ["auto", "spread", "cpu"]
    if torch.cuda.is_available():
        here += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        here.append("mps")
    return ScopeError(f"there is no device {display_text(name)!r} here", ", ".join(here))
