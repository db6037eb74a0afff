"""Validate the arguments of `llmscope.load` and convert them to plain types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from llmscope.errors import WrongTypeError, WrongUseError, WrongValueError, option
from llmscope.models.loaded_model import RowMemory
from llmscope.support import arguments
from llmscope.support.dtypes import dtype_name

SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)i?B?", re.IGNORECASE)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def checked_load(
    spec: Any,
    device: Any,
    dtype: Any,
    threads: Any,
    adapters: Any,
    reward: Any,
    **others: Any,
) -> dict[str, Any]:
    """Return the keyword arguments for `load_model`.

    Args:
        spec, device, dtype, threads, adapters, reward: as for `load_model`, of any type.
        others: backend, cache_type, trust_remote_code, allow_pickle and progress.

    Raises:
        ScopeError: a loaded model was given instead of a name.
        TypeError, ValueError: see `llmscope.support.arguments`.
    """
    return {
        "spec": _model("spec", spec),
        "device": _device(device),
        "dtype": _dtype(dtype),
        "backend": _backend(others["backend"]),
        "cache_type": None
        if others["cache_type"] is None
        else arguments.text("cache_type", others["cache_type"]),
        "threads": None if threads is None else _threads(threads),
        "adapters": tuple(
            str(_model(f"adapters[{at}]", adapter, needed=True))
            for at, adapter in enumerate(arguments.several("adapters", adapters))
        ),
        "reward": _model("reward", reward),
        "trust_remote_code": arguments.flag("trust_remote_code", others["trust_remote_code"]),
        "allow_pickle": arguments.flag("allow_pickle", others["allow_pickle"]),
        "progress": arguments.function("progress", others["progress"]),
    }


def _model(name: str, value: Any, *, needed: bool = False) -> str | None:
    if isinstance(value, torch.nn.Module):
        raise WrongTypeError(
            f"{name} must be the name or the folder of a model, not a model that is loaded "
            f"({type(value).__name__})",
            "model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER), then load(FOLDER)",
        )
    if value is None and not needed:
        return None
    text = arguments.name_or_path(name, value)
    if "\0" in text:
        raise WrongValueError(f"{name} {arguments.quote_value(text)} holds a NUL character")
    return text


def _device(value: Any) -> str:
    if value is None:
        return "auto"
    return arguments.text("device", str(value) if isinstance(value, torch.device) else value)


def _dtype(value: Any) -> str:
    if value is None:
        return "auto"
    if isinstance(value, torch.dtype):
        value = str(value).removeprefix("torch.")
    return dtype_name(arguments.text("dtype", value))


def _backend(value: Any) -> str:
    return "transformers" if value is None else arguments.text("backend", value)


def _threads(value: Any) -> int:
    return arguments.integer("threads", value, lowest=-arguments.LARGEST)


def row_memory(memory: Any, spill: Any) -> RowMemory:
    """Return the bound on what is kept of long prompts.

    Args:
        memory: bytes, or a text such as `8GB`; None for the default.
        spill: a folder that exists; None: nothing is written.

    Raises:
        ScopeError: it is no size, or no folder.
        TypeError: they have other types.
    """
    limit = RowMemory.limit
    if isinstance(memory, str):
        limit = _size(memory)
    elif memory is not None:
        limit = arguments.integer("memory", memory, lowest=0)
    if spill is None:
        return RowMemory(limit)
    folder = Path(arguments.name_or_path("spill", spill))
    if not folder.is_dir():
        raise WrongUseError(
            f"{option('spill')}: {arguments.quote_value(str(folder))} is no folder",
            "a folder that exists",
        )
    return RowMemory(limit, folder)


def _size(text: str) -> int:
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise WrongUseError(
            f"{option('memory')}: {arguments.quote_value(text)} is no size",
            "a size such as 8GB or 500MB",
        )
    return int(float(match[1]) * UNITS[match[2].upper()])
