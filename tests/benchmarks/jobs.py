"""What a contender offers: jobs that a worker prepares once and runs in rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BACKWARDS = 4
"""Backwards of a batch of cotangents that a part of a fit takes, beside one forward."""
RECEIVER = (20, 0)
"""The layer and the head whose values read the edges of a study of pairs."""


class NotRun(Exception):
    """This job makes no sense here, or would not fit. The report lists it with the reason."""


def nothing() -> None:
    """No preparation needed."""


@dataclass
class Job:
    """One thing to measure.

    Attributes:
        run: what is timed. It may return a dict: `seconds` there replaces the worker's own clock
            (None: this round does not count), everything else is kept with the result.
        reset: called before each run, outside of the clock.
        home: a folder that lives as long as the job.
    """

    run: Callable[[], Any]
    reset: Callable[[], None] = nothing
    home: Any = None


def require_memory(needed: int, of: str) -> None:
    """Refuse what would not fit with room to spare, before the system kills somebody for it."""
    import psutil

    free = psutil.virtual_memory().available
    if needed > free * 0.7:
        raise NotRun(f"{of} takes about {needed / 1e9:.0f} GB; {free / 1e9:.0f} GB are free")
