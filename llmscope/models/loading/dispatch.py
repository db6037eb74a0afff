"""Place models larger than one device: their layers on every device, in memory, and on disk.

accelerate does the dispatch: its hooks move a module's weights to the device where the module runs,
just before it runs. Until then an offloaded weight is on torch's meta device, so only the module
that owns a weight may use it.
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

from llmscope.errors import ScopeError, option
from llmscope.models.anatomy import FLOATS
from llmscope.models.files.cache import cache_folder
from llmscope.models.files.quantized import describe, device_map_for, settings
from llmscope.models.loading.device import choose_dtype
from llmscope.models.loading.memory import fits
from llmscope.models.tensor_parallel.plan import distributed, planned
from llmscope.models.tensor_parallel.processes import leader
from llmscope.support.text import display_text

SPREAD = "spread"
MAX_MEMORY: dict[int | str, int] | None = None
"""Bytes that weights may take on each device; None means the free memory."""


@dataclass(frozen=True)
class Placing:
    """The placement of a model on devices, and its dtype.

    Attributes:
        dtype: the dtype; None for the checkpoint's own.
        settings: arguments for `from_pretrained`; if empty, the model loads on the CPU and is then
            moved.
        notices: notices for the user about the placement.
        plan: by which the weights are split over the processes of torchrun; None for one process.
    """

    dtype: torch.dtype | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    plan: Mapping[str, str] | None = None

    @property
    def spread(self) -> bool:
        """Return whether the model is spread over several devices."""
        return self.settings.get("device_map") == "auto"

    def input_device(self, model: Any) -> torch.device:
        """Return the device for input ids.

        For a spread model it is the first device that is not cpu or disk, because its first
        weights may be offloaded; cpu without such a device.
        """
        if not self.spread:
            device: torch.device = model.device
            return device
        running = (home for home in _homes(model) if str(home) not in ("cpu", "disk"))
        return torch.device(next(running, "cpu"))

    def compute_dtype(self, model: Any) -> torch.dtype:
        """Return the dtype that the model computes in, also for packed weights."""
        weight_dtype = getattr(model.get_input_embeddings().weight, "dtype", None)
        dtype: torch.dtype = weight_dtype if weight_dtype in FLOATS else model.config.dtype
        return dtype

    def told(self, config: Mapping[str, Any], model: Any) -> tuple[str, ...]:
        """Return the notices about a loaded model with this placement.

        Args:
            config: the config of its checkpoint.
            model: the loaded model.
        """
        *rest, last = dict.fromkeys(_device_name(home) for home in _homes(model))
        where = [f"weights are spread over {', '.join(rest)} and {last}"] if rest else []
        return (*self.notices, *describe(config, model), *where)


def _homes(model: Any) -> list[int | str | torch.device]:
    """Return the devices of a model's parts; a single one if accelerate did not spread it."""
    homes: dict[str, Any] = getattr(model, "hf_device_map", None) or {"": model.device}
    return list(homes.values())


def _device_name(home: int | str | torch.device) -> str:
    return f"cuda:{home}" if isinstance(home, int) else str(home)


def place(
    device: str,
    chosen: torch.device,
    dtype: str,
    folder: Path,
    config: Mapping[str, Any],
    named: str,
    trust_remote_code: bool = False,
) -> Placing:
    """Decide the placement and dtype of a checkpoint.

    Args:
        device: the device name from the user; `auto` spreads a model that does not fit on one GPU.
        chosen: the device for that name.
        dtype: the dtype name; `auto` leaves quantized weights in theirs.
        folder: the folder of its weights.
        config: the content of its config.json.
        named: the user's name for the model.
        trust_remote_code: whether code that comes with the model may run.

    Raises:
        ScopeError: its quantization does not run on the device, or the cache cannot be written.
    """
    notices: tuple[str, ...] = ()
    quantised = settings(config) is not None
    number = None if quantised and dtype == "auto" else choose_dtype(dtype, chosen)
    if leader() is not None:
        return _split(device, chosen, number, folder, named, quantised, trust_remote_code)
    too_large = device == "auto" and chosen.type == "cuda" and not fits(folder, number, chosen)
    if too_large:
        notices = (f"its weights do not fit in what is free on {chosen}",)
    if device == SPREAD or too_large:
        arguments = {
            "device_map": "auto",
            "max_memory": MAX_MEMORY,
            "offload_folder": _offload_folder(),
        }
        return Placing(number, arguments, notices)
    if quantised:
        return Placing(number, {"device_map": device_map_for(config, named, chosen)})
    return Placing(number)


def _split(
    device: str,
    chosen: torch.device,
    dtype: torch.dtype | None,
    folder: Path,
    named: str,
    quantised: bool,
    trust_remote_code: bool,
) -> Placing:
    """Return the placement of a model that is split over the processes of torchrun."""
    processes = leader()
    assert processes is not None
    name = display_text(named)
    if device == SPREAD or chosen.type != processes.device.type:
        raise ScopeError(
            f"{name} is split over {processes.count} processes of torchrun, each with a "
            f"{processes.device.type.replace('cuda', 'GPU').replace('cpu', 'CPU')} of its own, "
            f"which leaves {option('device', device)} nothing to choose",
            f"{option('device', 'auto')}, or llmscope without torchrun",
        )
    if quantised:
        raise ScopeError(
            f"{name} is quantized, and quantized weights are not split over processes",
            "llmscope without torchrun",
        )
    plan = planned(folder, named, trust_remote_code)
    settings = {"distributed_config": distributed(processes.count, plan)}
    notice = f"its weights are split over {processes.count} processes"
    return Placing(dtype, settings, (notice,), plan)


def _offload_folder() -> str:
    """Create a folder for weights that are offloaded to disk, removed when the program ends."""
    parent = cache_folder() / "offload"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.iterdir():  # left by processes that were killed
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
