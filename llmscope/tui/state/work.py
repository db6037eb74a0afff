"""How far the running work is, in words and as a bar."""

from __future__ import annotations

from llmscope.engine.events import Frame, Working

BAR = 8
"""Width in cells of a bar in a title."""


def describe_work(work: Working) -> str:
    """Return what is done, how far it is, and when it ends, if that is known.

    `running layer 12 of 30`, `reading token 3,072 of 8,000 · 210/s · 23 s left`
    """
    if not work.total:
        return work.task
    text = f"{work.task} {work.done:,} of {work.total:,}"
    if not work.rate:
        return text
    left = (work.total - work.done) / work.rate
    return f"{text} · {work.rate:.0f}/s · {duration(left)} left"


def duration(seconds: float) -> str:
    """Return a time in words: `23 s`, `4 min`."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def sweep_of(frame: Frame) -> Working | None:
    """Return how far the sweep is whose figure is in a frame; None without an unfinished one."""
    for key, figure in frame.figures.items():
        done, total = figure.extra.get("progress", (0, 0))
        if done < total > 1:
            return Working(frame.serial, f"{key}, pass", done, total)
    return None


def bar(done: int, total: int, width: int = BAR) -> str:
    """Return a bar, `━━━─────`."""
    full = width * min(done, total) // total
    return "━" * full + "─" * (width - full)
