"""Wait for a headless app until it has nothing to do.

Textual's own wait after each key sleeps until the process has used no processor time for 20 ms,
twice a key. Nearly all of a whole-app test was that sleep, and on a busy machine a process that
gets no processor uses none of its time either: the wait ended before the app had done anything.

What an app will do next can be read instead: from its event loop the callbacks that are ready and
the timers that are due, from its screens whether they are still to be laid out or painted, and from
the threads whether one that a dialog started is still reading. A screen is painted up to two
periods of its timer after a change, 33 ms: it is not idle until then, whichever timers are due.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from textual import _wait
from textual._context import active_app
from textual.pilot import Pilot

WINDOW = 0.02
"""Seconds without anything due that count as idle; the same as Textual's."""
LIMIT = 30.0
"""Seconds after which an app that is never idle is waited for no longer."""
WRITING = 0.1
"""Seconds of processor time after which one that writes token after token is not either."""
LASTING = ("llmscope-engine", "llmscope-autosave", "llmscope-page", "llmscope-signals")
"""Names of threads that last as long as the app; a test waits for what they do by a condition."""


_held: list[bool] = []


@contextmanager
def reads_held() -> Iterator[None]:
    """Wait for no thread of a dialog within the block: the test holds one back."""
    _held.append(True)
    try:
        yield
    finally:
        _held.pop()


def _due(loop: Any) -> float | None:
    """Return when the next timer of an event loop is due; None if it has no timer."""
    times = [handle.when() for handle in loop._scheduled if not handle.cancelled()]
    return min(times, default=None)


def _unpainted(app: Any) -> list[Any]:
    """Return the screens of an app that are still to be laid out or painted, the top one last.

    Also those with a callback that waits for that. A screen below a dialog that covers it waits
    until the dialog closes, and is not among them.
    """
    if app is None or app._exit or app._batch_count or not app._screen_stacks:
        return []
    # A screen without a cell is never painted.
    screens = [
        screen
        for screen in app.screen_stack
        if screen.is_current and screen._running and screen.size.area
    ]
    return [
        screen
        for screen in screens
        if screen._layout_required
        or screen._dirty_widgets
        or screen._callbacks
        or screen._scroll_required
        or screen._recompose_required
        # Below a dialog each repaint asks for the next one.
        or (screen._repaint_required and screen is app.screen)
    ]


def _writes(app: Any) -> bool:
    """Return whether an app writes token after token until a key, so that it is never idle."""
    generation = vars(app).get("generation") if app is not None else None
    return generation is not None and generation.runs


def _reads(before: Collection[threading.Thread]) -> bool:
    """Return whether a thread that a dialog started is still at work."""
    return not _held and any(
        thread.name.startswith("llmscope-") and thread.name not in LASTING
        for thread in threading.enumerate()
        if thread not in before
    )


async def settle(app: Any, before: Collection[threading.Thread] = ()) -> None:
    """Wait until an app has nothing to do.

    Args:
        app: the app; None looks at the event loop alone.
        before: threads that are not the app's.
    """
    loop: Any = asyncio.get_running_loop()
    end, worked, quiet = loop.time() + LIMIT, time.process_time() + WRITING, False
    while loop.time() < end:
        await asyncio.sleep(0)
        if _writes(app) and time.process_time() > worked:
            return
        if app is not None and app._exception is not None:
            return  # the pilot raises it
        if loop._ready:
            continue
        if _reads(before):
            await asyncio.sleep(0.001)
        elif unpainted := _unpainted(app):
            # As the pilot does, instead of waiting for the timer: that of a screen below a dialog
            # may rest until the dialog closes.
            unpainted[-1]._on_timer_update()
        elif (due := _due(loop)) is not None and due <= loop.time() + WINDOW:
            await asyncio.sleep(max(0.0, due - loop.time()))
        elif quiet or not set(threading.enumerate()) - set(before):
            return
        else:  # a thread may be about to say something
            await _wait.wait_for_idle(0)
            quiet = True


@contextmanager
def short_waits() -> Iterator[None]:
    """Let pilots wait until the app has nothing to do."""
    before = set(threading.enumerate())

    async def wait_for_idle(*_: float) -> None:
        await settle(active_app.get(None), before)

    async def wait_for_screen(pilot: Pilot[Any], timeout: float = LIMIT) -> bool:
        await settle(pilot.app, before)
        return not pilot.app._exception_event.is_set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pilot, "_wait_for_screen", wait_for_screen)
        patch.setattr("textual.app.wait_for_idle", wait_for_idle)
        patch.setattr("textual.pilot.wait_for_idle", wait_for_idle)
        yield
