"""What edits cost: sweeps over heads and pairs of prompts, and an edit whose strength is turned."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.benchmarks.passes import Tell, opened, rounds
from tests.benchmarks.setting import Setting

JOBS = {
    32: {"bare": ("sweep",), "llmscope": ("sweep",)},
    64: {
        "bare": tuple(
            f"{what}_{where}"
            for what in ("from", "last_from")
            for where in ("low", "middle", "high")
        ),
        "screen": ("turn_low", "turn_middle", "turn_high"),
    },
}
"""By the length of the prompt."""
STUDY = {10: ("patched", "patched_heads", "patched_edges"), 50: ("attributed",)}
"""The parts of a study of pairs of prompts, by the number of pairs."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """As `passes.measure`."""
    for length, contenders in JOBS.items():
        with ExitStack() as stack:
            workers, refused = opened(tuple(contenders), setting, stack, tell)
            found.setdefault("refused", {}).update(refused)
            jobs = [(name, job) for name in workers for job in contenders[name]]
            rounds(workers, jobs, length, setting, tell, found.setdefault(str(length), {}))
    with ExitStack() as stack:
        workers, refused = opened(("bare", "llmscope"), setting, stack, tell)
        for count, parts in STUDY.items():
            jobs = [(name, job) for job in parts for name in workers]
            rounds(workers, jobs, count, setting, tell, found.setdefault(f"{count} pairs", {}))
