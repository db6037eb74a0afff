"""Run what may hang or eat the memory in a forked process with limits, so that a fault costs that.

The fork has every library of this process at hand: a case takes milliseconds, no new start.
"""

import json
import os
import resource
import select
import signal
import time
from dataclasses import dataclass

MEMORY = 1500 << 20
"""Bytes beyond those of this process."""


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        value: what it returned, as JSON holds it.
        error: class and text of what it raised; None if it returned.
        seconds: how long it took.
        killed: it took too long, or died.
    """

    value: object = None
    error: tuple[str, str] | None = None
    seconds: float = 0.0
    killed: bool = False


def limited(call, seconds=10.0, memory=MEMORY):
    """Return the outcome of `call()` in a fork that may take so long and so much memory more."""
    reading, writing = os.pipe()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(call, writing, memory)
    os.close(writing)
    content = b""
    try:
        while True:
            left = begun + seconds - time.monotonic()
            if left <= 0 or not select.select([reading], [], [], left)[0]:
                break
            block = os.read(reading, 1 << 16)
            if not block:
                break
            content += block
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    took = time.monotonic() - begun
    try:
        value, error = json.loads(content)
    except ValueError:
        return Outcome(seconds=took, killed=True)
    return Outcome(value, None if error is None else tuple(error), took)


def _run(call, writing, memory):
    """In the fork: call, tell, and end without what this process would do at its end."""
    try:
        import torch

        torch.set_num_threads(1)
        with open("/proc/self/statm") as file:
            here = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (here + memory, here + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            told = [call(), None]
        except BaseException as error:
            told = [None, [type(error).__name__, str(error)]]
        os.write(writing, json.dumps(told, default=str).encode())
    finally:
        os._exit(0)


def refused(call, *words, **limits):
    """Check that `call()` raises a ScopeError of one bounded line with these words; return it."""
    outcome = limited(call, **limits)
    assert not outcome.killed, f"hung or died after {outcome.seconds:.1f} s"
    assert outcome.error is not None, f"was taken: {outcome.value}"
    kind, text = outcome.error
    assert kind == "ScopeError", outcome.error
    assert "\n" not in text
    assert len(text) < 600, len(text)
    for word in words:
        assert word in text, text
    return text
