"""The real program in a real (pseudo-)terminal: started, typed into, resized, left."""

import json
import os
import re
import signal
import sys
import termios
import time

import pytest

from tests.ending import ended

pexpect = pytest.importorskip("pexpect", reason="there are no pseudo-terminals here")
pyte = pytest.importorskip("pyte")

PATIENCE = 60  # seconds; torch alone takes several on a busy machine


class Terminal:
    """llmscope in a pty, and what a terminal would show of it."""

    def __init__(self, folder, *arguments, columns=120, rows=40, command=None):
        environment = os.environ | {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LLMSCOPE_STATE": str(folder / "state"),
            "COLUMNS": "33",  # some shells export a size; the real one counts
        }
        environment.pop("NO_COLOR", None)
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.child = pexpect.spawn(
            *(command or (sys.executable, ["-m", "llmscope", *arguments])),
            dimensions=(rows, columns),
            env=environment,
            cwd=folder,
            timeout=PATIENCE,
        )
        self.before = self.modes

    def read(self, seconds=0.2):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                data = self.child.read_nonblocking(65536, timeout=0.05)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                return
            self.raw += data
            self.stream.feed(data)

    @property
    def text(self):
        return "\n".join(self.screen.display)

    def wait(self, *wanted):
        """Return the text once all of `wanted` is on the screen and a while brought nothing new."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            seen = len(self.raw)
            self.read()
            if len(self.raw) == seen and all(part in self.text for part in wanted):
                return self.text
        raise AssertionError(f"{wanted} did not appear:\n{self.text}")

    def see(self, wanted):
        """Wait until a text is on the screen, also while something moves beside it."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.read(0.05)
            if wanted in self.text:
                return
        raise AssertionError(f"{wanted} did not appear:\n{self.text}")

    def type(self, text):
        for letter in text:
            self.child.send(letter)
            self.read(0.05)

    def resize(self, columns, rows):
        self.screen.resize(rows, columns)
        self.screen.reset()
        self.child.setwinsize(rows, columns)
        self.read(1.0)

    @property
    def modes(self):
        """What the terminal does with input and output: echo, line editing and such."""
        return termios.tcgetattr(self.child.child_fd)[:4]

    def leave(self, keys):
        """Send what quits, and wait for the end of the program."""
        self.child.send(keys)
        until = time.monotonic() + PATIENCE
        while self.child.isalive() and time.monotonic() < until:
            self.read()
        self.read(0.5)
        return self.child.wait() if self.child.isalive() else self.child.exitstatus


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def start(*arguments, **size):
        opened.append(Terminal(tmp_path, *arguments, **size))
        return opened[-1]

    yield start
    for one in opened:
        ended(one.child)


def test_a_person_types_looks_resizes_and_leaves(terminal):
    program = terminal("builtin:sort", "--prompt", "C")
    program.wait("3 layers", "Next token", "Attention", "MLP")
    pictures = {program.text}
    for letters, expected in (("ABACB", "99.98"), ("A", "CABACBA")):
        program.type(letters)
        pictures.add(program.wait(expected))
    assert len(pictures) == 3
    program.resize(40, 10)
    assert program.text.strip()
    program.resize(200, 60)
    wide = program.wait("Attention", "MLP", "Next token")
    assert max(len(line.rstrip()) for line in wide.splitlines()) > 190
    assert program.leave("\x11") == 0  # ctrl+q
    left = program.raw
    for begin, end in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h")):
        assert left.rindex(end) > left.rindex(begin)
    assert left.rindex(b"\x1b[?1000l") > left.rindex(b"\x1b[?1000h")
    assert b"Traceback" not in left


@pytest.mark.slow
def test_two_models_read_what_is_typed_and_the_next_start_has_both(terminal):
    program = terminal("builtin:town", "--versus-model", "builtin:town-pirate", "--prompt", "the")
    program.wait("A town · B town-sft + town-pirate", "KL <s>", "Next token")
    program.type(" cat")
    program.wait("·cat", "mean")
    program.child.send("\x1b")
    program.wait("e edit")
    program.child.send("0m")
    program.wait("Models · KL(A ‖ B) of the logit lens", "Next in both", "Changed parts")
    assert program.leave("q") == 0
    again = terminal()
    again.wait("A town · B town-sft + town-pirate", "Next in both", "·cat")
    assert again.leave("\x11") == 0


@pytest.mark.slow
def test_a_file_of_prompts_is_listed_and_its_tokens_open(terminal, tmp_path):
    file = tmp_path / "my.jsonl"
    texts = ("what do you sell ?", "dog -> puppy, cow ->", "anna lives in the mill")
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in (*texts, 5)))
    pair = ("builtin:town", "--versus-model", "builtin:town-pirate")
    screen = terminal(*pair, "--prompts", "my.jsonl")
    text = screen.wait("3 prompts read · 1 not", "mean KL", "line 4: its prompt is no text")
    assert "Prompts · my.jsonl · KL(A ‖ B) · A town · B town-sft + town-pirate" in text
    top = next(row for row in screen.screen.display if "▸" in row and "%" in row)
    value = float(top.split()[2])
    assert value > 1
    screen.child.send("\r")
    text = screen.wait("Next in both")
    assert any(one in text for one in texts)
    row = next(line for line in screen.screen.display if line.startswith(" KL "))
    numbers = [float(one) for one in re.findall(r"\d+\.\d+", row)]
    assert max(numbers) == pytest.approx(value, rel=0.01), "the row of both models has it too"
    screen.child.send("\x1b")
    screen.wait("3 prompts read")
    assert screen.leave("q") == 0
    again = terminal(*pair)
    again.wait("3 prompts read", "my.jsonl")
    assert again.leave("q") == 0


@pytest.mark.slow
def test_the_terminal_gets_its_modes_back(terminal):
    program = terminal("builtin:sort", "--prompt", "CABACB")
    program.wait("Next token", "99.98")
    assert program.modes != program.before
    program.child.send("\x1b")  # leaves the editor, where q is a letter
    program.wait("q quit")
    assert program.leave("q") == 0
    assert program.modes == program.before


@pytest.mark.slow
def test_letters_typed_while_the_model_loads_are_kept(terminal):
    program = terminal("builtin:sort", "--prompt", "")
    program.wait("Prompt")
    program.type("CAB")
    program.wait("CAB", "Next token")


@pytest.mark.slow
def test_kill_9_takes_no_more_than_a_second_of_what_was_typed(terminal):
    program = terminal("builtin:sort", "--prompt", "C")
    program.wait("Next token")
    program.type("ABAC")
    program.wait("CABAC")
    time.sleep(1)
    program.child.kill(signal.SIGKILL)
    program.child.wait()
    again = terminal("builtin:sort")
    again.wait("CABAC", "Next token")
    again.child.send("\x1a")  # undo reaches back into what was killed
    again.wait("│ C  ")
    assert again.leave("\x11") == 0


@pytest.mark.slow
def test_what_cannot_be_read_is_set_aside_with_a_notice(terminal, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "state.json").write_bytes(b"\x00 once {")
    (state / "history.jsonl").write_text("[]")
    program = terminal("builtin:sort")
    program.wait("state.json.bad")
    program.wait("Next token")
    program.child.send("\x12")  # ctrl+r, which reads the history
    program.wait("history.jsonl.bad")
    program.child.send("\x1b")
    program.wait("Next token")
    assert program.leave("\x11") == 0
    assert (state / "state.json.bad").read_bytes() == b"\x00 once {"
    assert (state / "history.jsonl.bad").read_text() == "[]"
    assert "Traceback" not in program.raw.decode("utf-8", "replace")
