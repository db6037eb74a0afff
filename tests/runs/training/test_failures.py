"""Whatever fails while a training is recorded, the training goes on, with one warning."""

import contextlib
import errno
import gc
import os
import resource
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import llmscope
from llmscope.runs.reader import RunReader
from llmscope.runs.training import LensCallback, Run
from llmscope.runs.training import callback as callback_module
from tests.runs.training.small import LENSES, PROMPTS, loop, same, town
from tests.thinned import thinned

ROOT = Path(__file__).resolve().parents[3]


class Panic(BaseException):
    """What a library in another language raises: no Exception."""


class Mute(Exception):
    def __str__(self):
        raise ValueError("an error without a text")


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@contextlib.contextmanager
def limited(kind, size):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextlib.contextmanager
def no_room():
    with limited(resource.RLIMIT_FSIZE, 100):
        yield


@contextlib.contextmanager
def no_descriptors():
    gc.collect()  # what another test left open would be closed, and its number free, amid this one
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with limited(resource.RLIMIT_NOFILE, highest + 1), contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):  # the free numbers below the limit
            for _ in range(highest + 1):
                opened.enter_context(open(os.devnull))
        yield


@contextlib.contextmanager
def patched(target, name, error):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, raising(error))
        yield


FAULTS = {
    "a panic": (lambda run: patched(run._source, "figures", Panic("at src/lib.rs:5")), "Panic"),
    "an error without a text": (lambda run: patched(run._source, "figures", Mute()), "Mute"),
    "a panic in what frees memory": (
        lambda run: patched(run._source, "forget", Panic("again")),
        "Panic",
    ),
    "no room on the disk": (lambda run: no_room(), "too large"),
    "a full disk": (
        lambda run: patched(os, "fsync", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        "No space",
    ),
    "a disk that is read-only": (
        lambda run: patched(os, "replace", OSError(errno.EROFS, os.strerror(errno.EROFS))),
        "Read-only",
    ),
    "no descriptors": (lambda run: no_descriptors(), "Too many open files"),
    "no memory": (lambda run: patched(run._source, "figures", MemoryError()), "MemoryError"),
    "a folder that is gone": (lambda run: gone(run.folder), "has lost its run.json"),
    "a folder that is a file": (lambda run: in_the_way(run.folder), "Not a directory"),
}


FURTHER = {"a full disk", "a disk that is read-only", "no memory", "a folder that is a file"}
"""Faults that end a recording as others do; they run with the slow tests."""


@contextlib.contextmanager
def gone(folder):
    shutil.rmtree(folder)
    yield
    assert not (folder / "shards").exists()


@contextlib.contextmanager
def in_the_way(folder):
    shutil.rmtree(folder)
    folder.write_text("in the way")
    yield


@pytest.fixture(scope="module")
def plain():
    return loop(*town(), 4)


@pytest.mark.parametrize("name", thinned(FAULTS, lambda name: name not in FURTHER))
def test_the_training_goes_on(tmp_path, plain, name):
    fault, said = FAULTS[name]
    model, tokenizer = town()
    run = Run(tmp_path / "run", llmscope.wrap(model, tokenizer), PROMPTS, lenses=LENSES)

    def record(step, loss):
        if step == 2:
            with fault(run):
                run.record(step)
                run.log(step, loss=loss)
        else:
            run.record(step)

    with pytest.warns(RuntimeWarning, match="llmscope records nothing more") as told:
        trained = loop(model, tokenizer, 4, record)
    assert len([one for one in told if "llmscope" in str(one.message)]) == 1
    assert said in run.stopped
    assert "\n" not in run.stopped
    assert same(plain, trained)
    if (tmp_path / "run" / "run.json").exists():
        assert [one.step for one in RunReader(tmp_path / "run").steps] == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_user_may_end_it(tmp_path, error):
    run = Run(tmp_path / "run", llmscope.wrap(*town()), PROMPTS, lenses=LENSES)
    with patched(run._source, "figures", error()), pytest.raises(error):
        run.record(0)
    assert not run.stopped
    run.record(0)
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0]


def begun(callback):
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    model, tokenizer = town()
    callback.on_train_begin(None, state, None, model=model, processing_class=tokenizer)
    return callback


def test_a_panic_before_the_first_step_only_warns(tmp_path):
    callback = LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES)
    with (
        patched(callback_module, "wrap", Panic("at src/lib.rs:5")),
        pytest.warns(RuntimeWarning, match="llmscope records nothing: Panic") as told,
    ):
        assert begun(callback).run is None
    assert len(told) == 1
    with patched(callback_module, "wrap", KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        begun(callback)


def test_a_filter_of_warnings_that_fails_does_not_end_the_training(tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "run", llmscope.wrap(*town()), PROMPTS, lenses=LENSES)
    monkeypatch.setattr(warnings, "warn", raising(Panic("no warnings here")))
    with patched(run._source, "figures", Panic("x")):
        run.record(0)
    assert "warning: llmscope records nothing more: Panic: x" in capsys.readouterr().err


HOLDER = """
import sys
import llmscope
from llmscope.runs.training import Run
from tests.runs.training.small import LENSES, PROMPTS, town

run = Run(sys.argv[1], llmscope.wrap(*town()), PROMPTS, lenses=LENSES)
run.record(0)
print("recorded", flush=True)
sys.stdin.read()
"""


WRITER = """
import sys
from pathlib import Path
from tests.runs.making import info, figures, line
from llmscope.runs.writer import RunWriter

run = RunWriter(Path(sys.argv[1]), info())
run.add(figures(0), line(0), began=0.0)
print("recorded", flush=True)
sys.stdin.read()
"""
"""Holds a folder as a training does, without torch, whose import takes seconds."""


@pytest.mark.parametrize(
    "holder", [WRITER, pytest.param(HOLDER, marks=pytest.mark.slow)], ids=["writer", "training"]
)
def test_a_second_training_into_one_folder_warns_and_goes_on(tmp_path, holder):
    process = subprocess.Popen(
        [sys.executable, "-c", holder, tmp_path / "run"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "recorded\n"
    callback = LensCallback(PROMPTS, tmp_path / "run", lenses=LENSES, overwrite=True)
    with pytest.warns(RuntimeWarning, match="another process writes to"):
        assert begun(callback).run is None
    process.stdin.close()
    process.wait()
    process.stdout.close()
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [0]
