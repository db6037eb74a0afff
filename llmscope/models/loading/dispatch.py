"""Models that are larger than one device: layers on every device, in memory, and on disk.

The spreading is accelerate's: its hooks bring what a module needs to where it runs, just before
it runs. A weight that is not at home is on torch's meta device, so nothing may use a weight but
the module that it belongs to.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from llmscope.errors import ScopeError
from llmscope.models.anatomy import FLOATS
from llmscope.models.files.cache import cache_folder
from llmscope.models.files.quantized import describe, device_map_for, settings
from llmscope.models.loading.device import choose_dtype
from llmscope.models.loading.memory import fits
from llmscope.text import display_text

SPREAD = "spread"
MAX_MEMORY: dict[int | str, int] | None = None
"""Bytes that weights may take on each device; None: what is free there."""


@dataclass(frozen=True)
class Placing:
    """Where a model goes and in which numbers.

    Attributes:
        dtype: None for the checkpoint's own.
        settings: what `from_pretrained` is told of it; nothing: it loads on the CPU, and is moved.
        notices: what a person should know about it.
    """

    dtype: torch.dtype | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def spread(self) -> bool:
        """Whether the model is on several devices."""
        return self.settings.get("device_map") == "auto"

    def input_device(self, model: Any) -> torch.device:
        """Where the model takes its ids; a spread one's first weights may be on none at all."""
        if not self.spread:
            device: torch.device = model.device
            return device
        running = (home for home in _homes(model) if str(home) not in ("cpu", "disk"))
        return torch.device(next(running, "cpu"))

    def compute_dtype(self, model: Any) -> torch.dtype:
        """What the model computes in, whatever its weights are packed as."""
        found = getattr(model.get_input_embeddings().weight, "dtype", None)
        dtype: torch.dtype = found if found in FLOATS else model.config.dtype
        return dtype

    def told(self, config: Mapping[str, Any], model: Any) -> tuple[str, ...]:
        """The notices about a model that was loaded so, from the config of its checkpoint."""
        *rest, last = dict.fromkeys(_named(home) for home in _homes(model))
        where = [f"weights are spread over {', '.join(rest)} and {last}"] if rest else []
        return (*self.notices, *describe(config, model), *where)


def _homes(model: Any) -> list[int | str | torch.device]:
    """Where the parts of a model are; one place where accelerate had nothing to spread."""
    homes: dict[str, Any] = getattr(model, "hf_device_map", None) or {"": model.device}
    return list(homes.values())


def _named(home: int | str | torch.device) -> str:
    return f"cuda:{home}" if isinstance(home, int) else str(home)


def place(
    device: str,
    chosen: torch.device,
    dtype: str,
    folder: Path,
    config: Mapping[str, Any],
    named: str,
) -> Placing:
    """Decide where a checkpoint goes.

    Args:
        device: what the person asked for; `auto` spreads what does not fit on one GPU.
        chosen: the device of that name.
        dtype: the name of one; `auto` leaves quantised weights theirs.
        folder: where its weights are.
        config: what its config.json says.
        named: what the person called the model.

    Raises:
        ScopeError: its quantisation does not run there, or the cache cannot be written.
    """
    notices: tuple[str, ...] = ()
    quantised = settings(config) is not None
    number = None if quantised and dtype == "auto" else choose_dtype(dtype, chosen)
    too_large = device == "auto" and chosen.type == "cuda" and not fits(folder, number, chosen)
    if too_large:
        notices = (f"its weights do not fit in what is free on {chosen}",)
    if device == SPREAD or too_large:
        told = {"device_map": "auto", "max_memory": MAX_MEMORY, "offload_folder": _offload_folder()}
        return Placing(number, told, notices)
    if quantised:
        return Placing(number, {"device_map": device_map_for(config, named, chosen)})
    return Placing(number)


def _offload_folder() -> str:
    """A folder for weights that only the disk has room for, gone when the program ends."""
    parent = cache_folder() / "offload"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.iterdir():  # of programs that were killed
            owner = left.name.partition("-")[0]
            if owner.isdigit() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent)
    except OSError as error:
        raise ScopeError(
            f"the cache {display_text(str(cache_folder()))} cannot be written: "
            f"{display_text(error.strerror or str(error))}",
            "LLMSCOPE_CACHE, set to a folder with enough room",
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
