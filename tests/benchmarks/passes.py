"""Passes and figures: all contenders in turn, in every round, for each length of prompt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tests.benchmarks.setting import Setting
from tests.benchmarks.workers import Refused, Worker

JOBS = (
    ("eager", "forward"),
    ("nnsight", "trace"),
    ("bertviz", "html"),
    ("circuitsvis", "html"),
    ("llmscope", "start"),
    ("screen", "start"),
    ("bare", "forward"),
    ("llmscope", "fresh"),
    ("llmscope", "append"),
    ("transformer_lens", "run"),
    ("screen", "append"),
    ("bare", "decode"),
    ("screen", "append_typed"),
    ("screen", "append_norms"),
    ("screen", "append_norms_typed"),
    ("bare", "decode_lens"),
    ("screen", "middle"),
    ("llmscope", "middle"),
    ("bare", "suffix"),
    ("screen", "head"),
    ("bare", "layer"),
    ("screen", "layer"),
)
"""What each contender does, in turn: jobs that a target compares run shortly after one another,
because a machine may be half as fast a few seconds later."""
CONTENDERS = tuple(dict.fromkeys(name for name, _ in JOBS))
INTERRUPTED = (("bare", "layer"), ("screen", "interrupt"))
ROUNDS_AT_LEAST = 3

Tell = Callable[[str], None]


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """Seconds of every job in every round: `{"512": {"bare.forward": {"seconds": […]}}}`."""
    with ExitStack() as stack:
        workers, refused = opened(setting.contenders or CONTENDERS, setting, stack, tell)
        found["refused"] = refused
        for length in setting.lengths:
            jobs = [(name, job) for name, job in JOBS if name in workers]
            rounds(workers, jobs, length, setting, tell, found.setdefault(str(length), {}))
        if setting.long in (setting.chosen_lengths or (setting.long,)):
            jobs = [(name, job) for name, job in INTERRUPTED if name in workers]
            entries = found.setdefault(f"interrupt {setting.long}", {})
            rounds(workers, jobs, setting.long, setting, tell, entries)


def opened(
    names: Sequence[str], setting: Setting, stack: ExitStack, tell: Tell
) -> tuple[dict[str, Worker], dict[str, str]]:
    """The workers of these contenders, and why some have none."""
    workers: dict[str, Worker] = {}
    refused: dict[str, str] = {}
    for name in names:
        tell(f"loading the model in {name}")
        try:
            workers[name] = stack.enter_context(Worker(name, setting))
        except Refused as reason:
            refused[name] = str(reason)
    return workers, refused


def rounds(
    workers: dict[str, Worker],
    jobs: list[tuple[str, str]],
    length: int,
    setting: Setting,
    tell: Tell,
    found: dict[str, Any],
) -> None:
    """Run all jobs in turn, round after round, as long as the setting allows."""
    ready: list[tuple[str, str]] = []
    for name, job in jobs:
        tell(f"{length} tokens: preparing {name}.{job}")
        try:
            workers[name].ask("prepare", job=job, length=length)
        except Refused as reason:
            found[f"{name}.{job}"] = {"refused": str(reason)}
        else:
            found[f"{name}.{job}"] = {"seconds": []}
            ready.append((name, job))
    begun = time.monotonic()
    for number in range(setting.rounds):
        if number >= ROUNDS_AT_LEAST and time.monotonic() - begun > setting.patience:
            break
        tell(f"{length} tokens: round {number + 1} of {setting.rounds}")
        first = number % max(1, len(ready))
        turns = ready[first:] + ready[:first]
        for name, job in reversed(turns) if number % 2 else turns:  # neighbours take turns, too
            entry = found[f"{name}.{job}"]
            try:
                answer = workers[name].ask("run", job=job, length=length)
            except Refused as reason:
                answer = {"seconds": None}
                entry["refused"] = str(reason)
            for key, value in answer.items():
                entry.setdefault(key, []).append(value)
    for worker in workers.values():
        worker.ask("forget")
