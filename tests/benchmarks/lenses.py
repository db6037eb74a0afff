"""What lenses, dictionaries and a second model cost: a letter with one, and rows of a fit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from tests.benchmarks.passes import Tell, opened, rounds
from tests.benchmarks.setting import Setting

LETTER, FIT = 64, 128
"""Tokens of the prompts."""
JOBS: dict[int, dict[str, tuple[str, ...]]] = {
    LETTER: {
        "screen": (
            "append",
            "append_learned",
            "append_features",
            "append_features_first",
            "append_two_models",
        ),
    },
    FIT: {"bare": ("jacobian",), "llmscope": ("jacobian",)},
}
"""By the length of the prompt."""


def measure(setting: Setting, tell: Tell, found: dict[str, Any]) -> None:
    """As `passes.measure`."""
    for length, contenders in JOBS.items():
        with ExitStack() as stack:
            workers, refused = opened(tuple(contenders), setting, stack, tell)
            found.setdefault("refused", {}).update(refused)
            jobs = [(name, job) for name in workers for job in contenders[name]]
            rounds(workers, jobs, length, setting, tell, found.setdefault(str(length), {}))
