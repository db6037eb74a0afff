"""Stops and continuations that come while the program holds a lock that their handlers take."""

import asyncio
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from llmscope.tui.terminal.output_guard import outlive_stops


@pytest.fixture
def handlers():
    numbers = (signal.SIGTSTP, signal.SIGCONT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTSTP", "SIGCONT"])
async def test_a_handler_runs_after_the_write_that_the_signal_interrupts(handlers, name):
    lock, ran = threading.Lock(), []

    def textuals_own(number, frame):
        ran.append(lock.acquire(timeout=1))
        lock.release()

    number = getattr(signal, name)
    signal.signal(number, textuals_own)
    driver = SimpleNamespace(can_suspend=True, _must_signal_resume=True)
    resumed = SimpleNamespace(subscribe=lambda *_: None)
    outlive_stops(SimpleNamespace(_driver=driver, app_resume_signal=resumed))
    with lock:
        os.kill(os.getpid(), number)
        for _ in range(100):  # a handler runs between two of these
            assert ran == []
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert ran == [True]
