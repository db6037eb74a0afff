"""What every section shares: the device, the checkpoints, and both sides of a comparison."""

from __future__ import annotations

import gc
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.families import small_model
from tests.gpu.report import Section, Skipped, first_line
from tests.record.by_hand import PLACES, Plain

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class NoDevice(Exception):
    """The device that was asked for is missing."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk. `family`: its model type, by which hooks find its parts."""

    name: str
    family: str
    folder: Path


@dataclass(frozen=True)
class Setting:
    """How to run.

    Attributes:
        device: where llmscope and the independent side run.
        quick: fewer families and smaller shapes.
        home: a folder for weights, removed at the end.
        model: the folder of a real model; None: random ones alone.
        spoil: changes the model of the independent side; None: nothing does.
    """

    device: torch.device
    quick: bool
    home: Path
    model: Path | None = None
    spoil: Callable[[Any], None] | None = None
    _made: dict[str, Checkpoint] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        device: str | None,
        quick: bool,
        home: Path,
        model: Path | None,
        spoil: Callable[[Any], None] | None,
    ) -> Setting:
        """Return the setting for a device; None: cuda if there is one.

        Raises:
            NoDevice: there is no CUDA.
        """
        there = torch.cuda.is_available()
        if device == "cuda" and not there:
            raise NoDevice("there is no CUDA device here (try: --device cpu)")
        chosen = torch.device("cuda", 0) if there and device != "cpu" else torch.device("cpu")
        return cls(chosen, quick, home, model, spoil)

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    def need_cuda(self, for_what: str) -> None:
        """Raise `Skipped` unless the device is a GPU."""
        if not self.cuda:
            raise Skipped(f"{for_what} needs a GPU")

    def checkpoint(self, family: str, name: str = "", **changes: Any) -> Checkpoint:
        """Return a small random checkpoint of a family, written once.

        Args:
            family: the model type.
            name: another name for one with changes.
            changes: fields of its config.
        """
        name = name or family
        if name not in self._made:
            folder = self.home / "checkpoints" / name
            small_model(family, **changes).save_pretrained(folder)
            self._made[name] = Checkpoint(name, family, folder)
        return self._made[name]

    def checkpoints(self, section: Section, families: Sequence[str]) -> Iterator[Checkpoint]:
        """Yield a small random checkpoint of each family, and then the real model."""
        for family in families:
            yield self.checkpoint(family)
        if self.model is None:
            return
        config = json.loads((self.model / "config.json").read_text("utf-8"))
        if config.get("quantization_config"):
            section.skip(self.model.name, "its weights are quantised: see the section quantised")
        elif config.get("model_type") not in PLACES:
            section.skip(self.model.name, f"no places are known for {config.get('model_type')}")
        else:
            yield Checkpoint(self.model.name[:24], config["model_type"], self.model)

    def scope(self, folder: Path, dtype: str, device: str | None = None) -> Any:
        """Load a checkpoint in llmscope."""
        import llmscope

        return llmscope.load(folder, device=device or str(self.device), dtype=dtype)

    def plain(self, checkpoint: Checkpoint, dtype: str) -> Plain:
        """Load the same checkpoint in transformers alone."""
        return Plain(checkpoint.family, self.own(checkpoint.folder, dtype))

    def own(self, folder: Path, dtype: str, **how: Any) -> Any:
        """Load a folder in transformers alone, and spoil it if a test asks for that."""
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES.get(dtype, dtype), local_files_only=True, **how
        )
        model = model.eval() if how else model.eval().to(self.device)
        if self.spoil is not None:
            self.spoil(model)
        return model

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Give back what is cached for reuse."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def about(setting: Setting) -> dict[str, Any]:
    """Return the head of the report: the machine and the versions."""
    from tests.benchmarks.machine import about as machine
    from tests.gpu.run import now

    device = "cuda" if setting.cuda else "cpu"
    return {
        "device": torch.cuda.get_device_name(setting.device) if setting.cuda else "cpu",
        "driver": _driver() if setting.cuda else "",
        "cuda": torch.version.cuda or "",
        "quick": setting.quick,
        "model": "" if setting.model is None else setting.model.name,
        "date": now(),
        "llmscope": _own_version(),
        "machine": machine(device, torch.get_num_threads()),
    }


def _own_version() -> str:
    from llmscope import __version__

    return __version__


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return f"unknown: {first_line(error)}"
    return (ran.stdout.strip().splitlines() or ["unknown"])[0]


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that imports this checkout."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
