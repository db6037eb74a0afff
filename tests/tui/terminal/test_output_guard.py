"""The screen on a real terminal: what libraries print stays off it, and it is left clean."""

from __future__ import annotations

import os
import signal
import sys
import termios
from pathlib import Path

import pyte
import pytest

from tests.stored import prompts_in, put_into
from tests.thinned import thinned

pexpect = pytest.importorskip("pexpect")

PROGRAM = """
import ctypes, os, sys
from llmscope.errors import ScopeError
from llmscope.support.signals import end_on_signals
from llmscope.tui.run import run

end_on_signals()  # as the command does

def load(progress):
    os.write(1, b"NOISE on one\\n")
    os.write(2, b"NOISE on two\\n")
    sys.stdout.write("NOISE of python\\n")
    sys.stderr.write("NOISE of python\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"NOISE of a library")
    libc.fflush(None)
    if sys.argv[1] == "crash":
        from llmscope.tui.widgets.placeholder import Placeholder
        def crash(self, *failed):
            raise RuntimeError("the card is broken")
        Placeholder.failed = crash
    if sys.argv[1] == "stuck":
        from textual.app import App
        from llmscope.tui.terminal import output_guard
        App.exit = lambda self, *result: None  # never leaves
        output_guard.LEAVING = 0.5
    raise ScopeError("there are no weights", "other weights")

try:
    code = run(load, spec="gpt2", prompt=sys.argv[2], debug=sys.argv[3:] == ["debug"])
except ScopeError as error:
    sys.stderr.write(f"error: {error.message}\\n")
    code = 1
sys.exit(code)
"""


def _listen() -> None:
    """Let signals end the program, as in a terminal.

    Whoever runs the tests in the background or with nohup has all programs ignore some.
    """
    for name in ("SIGHUP", "SIGQUIT", "SIGTERM"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


class Terminal:
    def __init__(self, state: Path, *arguments: str) -> None:
        environ = {
            **os.environ,
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LLMSCOPE_STATE": str(state),
        }
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environ.pop(name, None)
        arguments = ("-c", PROGRAM, *arguments)
        self.child = pexpect.spawn(
            *(sys.executable, list(arguments)),
            dimensions=(24, 80),
            env=environ,
            timeout=30,
            preexec_fn=_listen,
        )
        self.before = termios.tcgetattr(self.child.child_fd)
        self.screen = pyte.Screen(80, 24)
        self.stream = pyte.ByteStream(self.screen)
        self.output = b""

    def read_until(self, *wanted: str) -> None:
        while not all(part in self.text for part in wanted):
            self.feed(self.child.read_nonblocking(65536, timeout=30))

    def feed(self, data: bytes) -> None:
        self.output += data
        self.stream.feed(data)

    def finish(self) -> int:
        while True:
            try:
                self.feed(self.child.read_nonblocking(65536, timeout=30))
            except pexpect.EOF:
                break
        assert termios.tcgetattr(self.child.child_fd) == self.before
        self.child.close()
        return int(self.child.exitstatus if self.child.exitstatus is not None else -1)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def assert_clean(self) -> None:
        for off in (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?2004l"):
            on = off[:-1] + (b"l" if off.endswith(b"h") else b"h")
            assert self.output.rfind(off) > self.output.rfind(on)


def test_library_output_stays_off_the_screen_and_the_terminal_is_left_clean(
    tmp_path: Path,
) -> None:
    terminal = Terminal(tmp_path, "quiet", "The capital")
    terminal.read_until("there are no weights", "The capital")
    terminal.child.send(" of")
    terminal.read_until("capital of")
    terminal.child.send("\x11")
    assert terminal.finish() == 0
    assert b"NOISE" not in terminal.output
    terminal.assert_clean()
    assert prompts_in(tmp_path) == {"gpt2": "The capital of"}


@pytest.mark.parametrize("of_0_1", thinned([False, True], lambda of_0_1: of_0_1))
def test_the_saved_prompt_comes_back(tmp_path: Path, of_0_1: bool) -> None:
    if of_0_1:
        (tmp_path / "prompts.json").write_text('{"gpt2": "once upon a time"}')
    else:
        put_into(tmp_path, prompts={"gpt2": "once upon a time"})
    terminal = Terminal(tmp_path, "quiet", "")
    terminal.read_until("once upon a time")
    terminal.child.send("\x11")
    assert terminal.finish() == 0
    assert prompts_in(tmp_path) == {"gpt2": "once upon a time"}
    assert not (tmp_path / "prompts.json").exists()


@pytest.mark.slow
def test_undo_reaches_into_the_session_before(tmp_path: Path) -> None:
    def session(prompt: str, *steps: tuple[bytes, str]) -> None:
        terminal = Terminal(tmp_path, "quiet", prompt)
        terminal.read_until("there are no weights")
        for keys, shown in steps:
            terminal.child.send(keys)
            terminal.read_until(f"│ {shown} ")
        terminal.child.send(b"\x11")
        assert terminal.finish() == 0

    session("", (b"a", "a"), (b"\x1b[200~ whale\x1b[201~", "a whale"), (b"!", "a whale!"))
    session("", (b"\x1a", "a whale"), (b"\x1a", "a"), (b"\x19", "a whale"))
    session("given", (b"\x1a", "a whale"), (b"\x19", "given"), (b"\x1a\x1a", "a"))
    session("", (b"\x1a", "type a prompt"), (b"\x19\x19\x19", "given"))


@pytest.mark.parametrize("name", thinned(["SIGTERM", "SIGHUP"], lambda name: name == "SIGHUP"))
def test_a_lost_connection_keeps_the_prompt(tmp_path: Path, name: str) -> None:
    terminal = Terminal(tmp_path, "quiet", "typed long ago")
    terminal.read_until("there are no weights")
    number = getattr(signal, name)
    os.kill(terminal.child.pid, number)
    assert terminal.finish() == 128 + number
    terminal.assert_clean()
    assert prompts_in(tmp_path) == {"gpt2": "typed long ago"}


def test_a_lost_connection_ends_also_what_cannot_leave(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "stuck", "typed long ago")
    terminal.read_until("there are no weights")
    os.kill(terminal.child.pid, signal.SIGHUP)
    assert terminal.finish() == 128 + signal.SIGHUP
    terminal.assert_clean()


@pytest.mark.parametrize("debug", thinned([False, True], lambda debug: not debug))
def test_a_crash_is_one_line_and_with_debug_the_whole_story(tmp_path: Path, debug: bool) -> None:
    terminal = Terminal(tmp_path, "crash", "kept", *(["debug"] if debug else []))
    assert terminal.finish() == 1
    terminal.assert_clean()
    after = terminal.output[terminal.output.rfind(b"\x1b[?1049l") :]
    assert b"error: the screen failed: RuntimeError: the card is broken" in after
    assert (b"NOISE on two" in after) == debug
    assert (b"Traceback" in after) == debug
    assert prompts_in(tmp_path) == {"gpt2": "kept"}
