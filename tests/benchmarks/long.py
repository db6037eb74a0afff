"""Long prompts: the first figures, the whole, a letter at the end, and the memory they take."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from tests.benchmarks.passes import Tell, opened, rounds
from tests.benchmarks.setting import Setting
from tests.benchmarks.workers import Refused, Worker

LENGTH = 8000
"""Tokens of the prompt."""
JOBS = {
    "bare": ("chunk", "prefill", "decode"),
    "llmscope": ("read",),
    "screen": ("first_part", "append"),
}
ROUNDS = 5
"""A round takes minutes."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """As `passes.measure`, and the memory of `read` as `recordings.measure` tells it."""
    setting = replace(setting, most_rounds=3 if setting.quick else ROUNDS)
    for length in setting.chosen_lengths or (LENGTH,):
        with ExitStack() as stack:
            workers, refused = opened(tuple(JOBS), setting, stack, tell)
            found["refused"] = refused
            jobs = [(name, job) for name in workers for job in JOBS[name]]
            entries = found.setdefault(str(length), {})
            rounds(workers, jobs, length, setting, tell, entries)
        tell(f"memory at {length} tokens")
        entry = entries["llmscope.memory"] = {}
        try:
            with Worker("llmscope", setting) as worker:
                answer = worker.ask("memory", job="read", length=length)
        except Refused as reason:
            entry["refused"] = str(reason)
        else:
            entry |= {key: [value] for key, value in answer.items()}
