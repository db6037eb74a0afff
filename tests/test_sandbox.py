"""Calls in a child process end: with a result, or with a reason, and the next one works."""

import contextvars
import os
import subprocess
import sys
import time

import pytest

from llmscope.support.sandbox import (
    MIB,
    CallError,
    Cancelled,
    FunctionError,
    MemoryLimitError,
    SizeLimitError,
    TimeLimitError,
    Worker,
    give_up_when,
)

HERE = "tests.sandboxed"


@pytest.fixture(scope="module")
def worker():
    # The children find the tests as well: they import from where their parent does.
    worker = Worker(HERE, memory=256 * MIB)
    sys.path.insert(0, os.getcwd())
    yield worker
    sys.path.remove(os.getcwd())
    worker.close()


def test_a_result_comes_back(worker):
    assert worker.call("echo", "é\ud800\n", [1, None], seconds=10) == ["é\ud800\n", [1, None]]
    begun = time.monotonic()
    worker.call("echo", "again", 0, seconds=10)
    assert time.monotonic() - begun < 1  # no second start


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("forever", TimeLimitError, "did not end within 0.2 s"),
        ("locked", TimeLimitError, "did not end within 0.2 s"),
        ("hungry", MemoryLimitError, "needs more than 256 MiB"),
        ("aborts", CallError, "it crashed, as where it needs more than 256 MiB"),
        ("leaves", FunctionError, "bye"),
        ("panics", FunctionError, "called `Option::unwrap"),
        ("recurses", FunctionError, "recursion"),
        ("unserialisable", FunctionError, "not JSON serializable"),
        ("nobody", FunctionError, "no attribute"),
    ],
)
def test_what_gives_no_result_gives_a_reason(worker, name, kind, said):
    with pytest.raises(CallError, match=said) as caught:
        worker.call(name, seconds=0.2 if kind is TimeLimitError else 10)
    assert type(caught.value) is kind
    assert len(str(caught.value)) <= 1000
    assert worker.call("echo", 1, 2, seconds=10) == [1, 2]


def test_an_interruptible_call_ends_once_it_is_given_up(worker):
    def work():
        give_up_when(lambda: True)
        with pytest.raises(Cancelled):
            worker.call("forever", seconds=1000, interruptible=True)
        return worker.call("echo", 1, 2, seconds=10)  # another call goes on

    assert contextvars.copy_context().run(work) == [1, 2]


def test_a_result_is_bounded(worker):
    with pytest.raises(SizeLimitError):
        worker.call("letters", 2000, seconds=10, largest=1000)
    assert worker.call("letters", 100, seconds=10, largest=1000) == "a" * 100


def test_the_child_knows_no_secrets_and_writes_no_files(worker, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "secret")
    worker.close()
    assert "HF_TOKEN" not in worker.call("environment", seconds=10)
    with pytest.raises(CallError):
        worker.call("writes", str(tmp_path / "x"), seconds=10)
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size == 0


def test_the_child_prints_nothing(worker, capfd):
    worker.call("prints", seconds=10)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_dies_with_its_parent(busy):
    code = f"""
import os, sys, threading, time
sys.path.insert(0, os.getcwd())
from llmscope.support.sandbox import Worker
worker = Worker({HERE!r})
print(worker.call("number", seconds=10), flush=True)
if {busy}:
    threading.Thread(target=lambda: worker.call("locked", seconds=0.2)).start()
    time.sleep(0.05)
os.kill(os.getpid(), 9)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    child = int(ended.stdout)
    for _ in range(100):
        try:
            os.kill(child, 0)
            with open(f"/proc/{child}/stat") as file:
                if file.read().split()[2] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("the child lives")


def test_ctrl_c_in_a_call_leaves_a_worker_that_works(worker, monkeypatch):
    reply = worker._reply

    def interrupted(largest):
        monkeypatch.setattr(worker, "_reply", reply)
        raise KeyboardInterrupt

    worker.call("echo", 1, 2, seconds=10)
    monkeypatch.setattr(worker, "_reply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.call("echo", 1, 2, seconds=10)
    assert worker.call("echo", 3, 4, seconds=10) == [3, 4]
