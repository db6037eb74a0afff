"""How far the running work is, in words and as a bar."""

from __future__ import annotations

from llmscope.engine.events import Frame, Working

BAR = 8
"""Width in cells of a bar in a title."""


def described(work: Working) -> str:
    """Return what is done and how far it is: `running layer 12 of 30`."""
    return f"{work.task} {work.done} of {work.total}" if work.total else work.task


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
