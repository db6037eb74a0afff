"""The whole program on a terminal: a run that another process writes, without torch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmscope.runs.reader import RunReader
from tests.cli.running import failure, fresh
from tests.runs.making import written

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

ROOT = Path(__file__).resolve().parents[4]

BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
ABSENT = (
    *("torch", "transformers", "tokenizers", "huggingface_hub", "accelerate", "peft", "gguf"),
    *("sentencepiece", "protobuf", "google", "jinja2", "psutil", "pyarrow", "pandas", "filelock"),
)
"""What a machine lacks that only watches: all that loads or runs a model."""
WALK = (
    BLOCKED.format(absent=ABSENT)
    + """
import asyncio, json
from pathlib import Path
from llmscope.runs.reader import RunReader
from llmscope.tui.modes.run.run_view import RunView
from llmscope.tui.modes.run.screen import watch_app

async def walk():
    app = watch_app(RunView([RunReader(Path(sys.argv[1]))]))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        keys = "comma full_stop home end n N f6 left right up down tab v m y y P escape"
        for key in [*keys.split(), "question_mark", "escape", "ctrl+p", *"quit", "escape"]:
            await pilot.press(key)
        assert app.state.tokens
    return app.return_code

asyncio.run(walk())
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
)


@pytest.fixture
def run(tmp_path):
    return written(tmp_path / "run")


def test_no_model_library_however_one_walks(run):
    result = fresh(str(run), code=WALK)
    assert result.returncode == 0, result.stderr
    assert not set(json.loads(result.stdout)) & set(ABSENT)


WRITE = """
import sys, time
from pathlib import Path
from time import perf_counter
from llmscope.runs.writer import RunWriter
from tests.runs.making import figures, info, line

writer = RunWriter(Path(sys.argv[1]), info())
for step in range(50, 100, 10):
    writer.add(figures(step), line(step), began=perf_counter())
    print(step, flush=True)
    sys.stdin.readline()
"""
MAIN = BLOCKED.format(absent=ABSENT) + "from llmscope.cli import main\nmain()\n"


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *words):
        self.screen = pyte.Screen(120, 40)
        self.stream = pyte.ByteStream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            ["-c", MAIN, *map(str, words)],
            dimensions=(40, 120),
            cwd=str(ROOT),
            env={**os.environ, "TERM": "xterm-256color"},
        )

    def until(self, text, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.stream.feed(self.child.read_nonblocking(1 << 16, timeout=0.05))
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                break
            if any(text in row for row in self.screen.display):
                return
        raise AssertionError(f"no {text!r} in:\n" + "\n".join(self.screen.display))


def test_a_run_that_another_process_writes_is_followed(run):
    terminal = Terminal("watch", run)
    terminal.until("step 40 of 40")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, run],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    for step in (50, 60):
        assert writer.stdout.readline() == f"{step}\n"
        terminal.until(f"step {step} of {step}")
        writer.stdin.write("\n")
        writer.stdin.flush()
    terminal.child.send(",")
    terminal.until("step 50 of")
    writer.kill()
    writer.wait()
    for pipe in (writer.stdin, writer.stdout):
        pipe.close()
    terminal.child.send("q")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0
    assert len(RunReader(run).steps) >= 7


@pytest.mark.parametrize("empty", [False, True])
def test_a_run_that_has_not_begun_is_awaited(tmp_path, empty):
    folder = tmp_path / "later"
    if empty:
        folder.mkdir()
    terminal = Terminal("watch", folder)
    terminal.until("is empty: waiting" if empty else "is not there yet: waiting")
    written(folder)
    terminal.until("step 40 of 40")
    terminal.child.send("q")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_waiting_for_a_run_ends_with_ctrl_c_and_not_at_a_folder_of_something_else(tmp_path):
    terminal = Terminal("watch", tmp_path / "never")
    terminal.until("waiting for a run")
    terminal.child.sendintr()
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 130
    (tmp_path / "notes.txt").touch()
    terminal = Terminal("watch", tmp_path)
    terminal.until("it holds no run.json")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 1


@pytest.mark.slow
def test_the_shipped_run_opens_without_torch():
    terminal = Terminal("watch", "builtin:town-run")
    terminal.until("dpo 100")
    terminal.child.send("q")
    terminal.child.expect(pexpect.EOF)
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_a_shell_completes_runs(run, monkeypatch):
    from llmscope.cli.completion import runs

    monkeypatch.chdir(run.parent)
    (run.parent / "notes.txt").touch()
    assert runs("") == ["builtin:town-run", "run/"]
    assert runs("./r") == ["./run/"]
    assert runs("b") == ["builtin:town-run"]


def test_wrong_usage(run, tmp_path):
    assert "no terminal" in failure("watch", run)
    assert "RUN" in failure("watch", code=2)
    assert "at most two" in failure("watch", run, run, run, code=2)
