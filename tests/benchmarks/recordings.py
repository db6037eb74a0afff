"""Extra memory of one recording against eager's, each in a process that ran nothing else."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.passes import Tell
from tests.benchmarks.setting import Setting
from tests.benchmarks.workers import Refused, Worker

WHO = (
    ("bare", "forward"),
    ("eager", "forward"),
    ("transformer_lens", "run"),
    ("llmscope", "fresh"),
)


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """`{"512": {"llmscope.fresh": {"bytes": […]}}}`."""
    for length in (512, setting.long):
        entries = found[str(length)] = {f"{name}.{job}": {} for name, job in WHO}
        for number in range(1 if setting.quick else 3):
            for name, job in WHO:
                tell(f"memory at {length} tokens: {name}.{job}, {number + 1}")
                entry = entries[f"{name}.{job}"]
                try:
                    with Worker(name, setting) as worker:
                        answer = worker.ask("memory", job=job, length=length)
                except Refused as reason:
                    entry["refused"] = str(reason)
                    continue
                for key, value in answer.items():
                    entry.setdefault(key, []).append(value)
