"""Many prompts: a batch export beside bare forwards of the same, and beside loops of others."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.benchmarks import one_svg
from tests.benchmarks.passes import Tell, opened, rounds
from tests.benchmarks.setting import Setting

WHO = {
    "bare": ("batched", "batched_last", "batched_lens"),
    "transformer_lens": ("loop", "loop_streams"),
    "nnsight": ("loop",),
    "llmscope": ("export",),
}
TOGETHER = (("bare", "batched_last"), ("llmscope", "record_all"))
"""Jobs over prompts that are recorded whole, whose tensors are all kept."""
KEPT = 100
"""The number of those prompts."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """As `passes.measure`; what stands for a length is the number of prompts, and `svg`."""
    count = 200 if setting.quick else 1000
    with ExitStack() as stack:
        workers, refused = opened(tuple(WHO), setting, stack, tell)
        found["refused"] = refused
        jobs = [(name, job) for name in workers for job in WHO[name]]
        rounds(workers, jobs, count, setting, tell, found.setdefault(str(count), {}))
        jobs = [(name, job) for name, job in TOGETHER if name in workers]
        rounds(workers, jobs, KEPT, setting, tell, found.setdefault(str(KEPT), {}))
    tell("an svg of a lens after the model is loaded")
    one_svg.measure(setting, found.setdefault("svg", {}))
