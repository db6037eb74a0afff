"""All stages in their order, each timed, measured and saved before the next begins."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification
from transformers.utils import logging

from . import base, preference, tuning
from .family import Stage, save, stage
from .life import Life
from .report import report

STEPS = {
    "town": 1000,
    "town-sft": 300,
    "town-pirate": 150,
    "town-shout": 300,
    "town-reward": 100,
    "town-dpo": 100,
    "town-grpo": 80,
}
LIFE = "town-run"  # the folder of the run that records pretraining, fine-tuning and DPO
FAST = 4  # steps of each stage, where only the road is tested


def train(home: Path, names: Sequence[str], fast: bool, seed: int, threads: int) -> None:
    """Train the named stages and write them to a folder; what they start from is read from there.

    Prints seconds and measures of each. Same seed, machine and threads, same weights.
    """
    torch.use_deterministic_algorithms(True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # trl sets options of transformers by the names that they had before.
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in names:
        one, steps = stage(name), FAST if fast else STEPS[name]
        print(f"{name}: {one.about}, {steps} steps", flush=True)
        began = time.perf_counter()
        # On the base's small steps a second thread gains nothing. And when it begins to look back
        # hangs on the last digits, which the number of threads changes.
        torch.set_num_threads(1 if one.trained_from is None else threads)
        torch.manual_seed(seed)
        model = _MAKERS[name](home, steps, seed)
        seconds = time.perf_counter() - began
        save(model, one, home)
        print(f"  {seconds:.0f} s", flush=True)
        report(home, one, count=20 if fast else 200)


def loaded(home: Path, one: Stage) -> Any:
    """A checkpoint of the family as transformers loads it."""
    kind = LlamaForSequenceClassification if one.kind == "reward" else LlamaForCausalLM
    return kind.from_pretrained(home / one.folder).eval()


def _tuned(home: Path) -> Any:
    return loaded(home, stage("town-sft"))


def _life(home: Path) -> Life:
    return Life(home / LIFE)


def _dpo(home: Path, steps: int, seed: int) -> Any:
    model = _tuned(home)
    return preference.dpo(model, copy.deepcopy(model), steps, seed, _life(home))


def _grpo(home: Path, steps: int, seed: int) -> Any:
    return preference.grpo(_tuned(home), loaded(home, stage("town-reward")), steps, seed)


_MAKERS: dict[str, Callable[[Path, int, int], Any]] = {
    "town": lambda home, steps, seed: base.pretrain(steps, seed, _life(home)),
    "town-sft": lambda home, steps, seed: tuning.fine_tune(
        loaded(home, stage("town")), steps, seed, _life(home)
    ),
    "town-pirate": lambda home, steps, seed: tuning.pirate(_tuned(home), steps, seed),
    "town-shout": lambda home, steps, seed: tuning.shout(_tuned(home), steps, seed),
    "town-reward": lambda home, steps, seed: preference.reward(_tuned(home), steps, seed),
    "town-dpo": _dpo,
    "town-grpo": _grpo,
}
