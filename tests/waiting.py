"""Wait for a headless app until it has nothing to do.

Textual's own wait after each key sleeps until the process has used no processor time for 20 ms,
twice a key. Nearly all of a whole-app test was that sleep. What an app without threads will do in
the next 20 ms can be read from its event loop instead: the callbacks that are ready, and the timers
that are due.

Its wait for the messages that widgets have queued sends each of them one more, which wakes all of
them for every key. They have none left once no callback is ready.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual import _wait
from textual.pilot import Pilot

WINDOW = 0.02
"""Seconds without anything due that count as idle; the same as Textual's."""


def _due(loop: Any) -> float | None:
    """Return when the next timer of an event loop is due; None if it has no timer."""
    times = [handle.when() for handle in loop._scheduled if not handle.cancelled()]
    return min(times, default=None)


@contextmanager
def short_waits() -> Iterator[None]:
    """Let pilots wait until the event loop is idle; while other threads run, as Textual does."""
    before = set(threading.enumerate())

    async def wait_for_idle(min_sleep: float = WINDOW, max_sleep: float = 1) -> None:
        if set(threading.enumerate()) - before:
            await _wait.wait_for_idle(min_sleep, max_sleep)
            return
        loop: Any = asyncio.get_running_loop()
        # An app that is never idle is not waited for; on a loaded machine a second is little work.
        worked, end = time.process_time() + max_sleep, loop.time() + 5 * max_sleep
        while time.process_time() < worked and loop.time() < end:
            await asyncio.sleep(0)
            if loop._ready:
                continue
            due = _due(loop)
            if due is None or due > loop.time() + WINDOW:
                return
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def wait_for_messages(pilot: Pilot[Any], timeout: float = 30.0) -> bool:
        loop: Any = asyncio.get_running_loop()
        end = loop.time() + min(timeout, 5.0)  # an app that is never idle is not waited for
        await asyncio.sleep(0)
        while loop._ready and loop.time() < end:
            await asyncio.sleep(0)
        return not pilot.app._exception_event.is_set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pilot, "_wait_for_screen", wait_for_messages)
        patch.setattr("textual.app.wait_for_idle", wait_for_idle)
        patch.setattr("textual.pilot.wait_for_idle", wait_for_idle)
        yield
