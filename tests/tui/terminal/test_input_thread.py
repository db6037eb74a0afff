"""What comes from the terminal: any bytes in any pieces, and the end of the thread that reads."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual._xterm_parser import XTermParser

from llmscope.tui.terminal import input_thread
from llmscope.tui.terminal.input_thread import TerminalDecoder, steady
from tests.test_terminal import Terminal, terminal  # noqa: F401
from tests.tui.terminal import test_output_guard as guard

pexpect = pytest.importorskip("pexpect")

ROOT = Path(__file__).parents[3]
LATIN = "café au lait".encode("latin-1")
READ = "caf\ufffd au lait"


def decoded(*parts: bytes) -> str:
    decoder = TerminalDecoder()
    return "".join([*map(decoder.decode, parts), decoder.decode(b"", final=True)])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((LATIN,), READ),
        (("漢字".encode()[:2], "漢字".encode()[2:4], "漢字".encode()[4:]), "漢字"),
        (("é".encode()[:1], b"x"), "\ufffdx"),
        ((b"\x9b", b"\xff", b"\x80a"), "\ufffd\ufffd\ufffda"),
        ((b"\xed\xa0\x80",), "\ufffd" * 3),  # a lone surrogate
        ((b"\xf0\x9f\x99",), "\ufffd"),
    ],
)
def test_bytes_that_are_not_utf_8_become_the_replacement_character(
    parts: tuple[bytes, ...], text: str
) -> None:
    assert decoded(*parts) == text


@pytest.mark.fast
def test_random_bytes_in_random_pieces_are_read_as_in_one() -> None:
    chance = random.Random(5)
    for _ in range(300):
        data = chance.randbytes(chance.randrange(1, 60))
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(4))
        parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        text = decoded(*filter(None, parts))
        assert text == data.decode("utf-8", "replace")
        text.encode()  # and no surrogate is in it


@pytest.mark.fast
def test_no_bytes_are_the_end_of_the_terminal() -> None:
    with pytest.raises(EOFError, match="the terminal is gone"):
        TerminalDecoder().decode(b"")


def keys_of(parser: Any, *parts: str) -> list[str]:
    found = [event for part in parts for event in parser.feed(part)]
    return [event.key if isinstance(event, events.Key) else type(event).__name__ for event in found]


@pytest.mark.fast
@pytest.mark.parametrize(
    "sequence",
    [
        "\x1b[1114112u",  # no codepoint
        "\x1b[97;1;99999999u",
        "\x1b[48;0;0;0;0t\x1b[<0;5;5M",  # a mouse in pixels, on a terminal of none
    ],
)
def test_a_sequence_that_the_parser_fails_on_is_skipped(sequence: str) -> None:
    keys = keys_of(steady(XTermParser)(), f"a{sequence}b", "c\x1b[A\x1b[200~pasted\x1b[201~")
    keys = [key for key in keys if key != "Resize"]
    try:
        keys_of(XTermParser(), f"a{sequence}b")
    except (ValueError, OverflowError, ZeroDivisionError):
        assert keys == ["a", "b", "c", "up", "Paste"]
    else:  # this version of Textual reads it as a key
        assert (keys[0], keys[-4:]) == ("a", ["b", "c", "up", "Paste"])


@pytest.mark.fast
def test_no_random_sequence_ends_the_parser() -> None:
    chance = random.Random(6)
    for _ in range(3000):
        parser = steady(XTermParser)()
        for _ in range(3):
            body = "".join(chance.choices("0123456789;:?<[]uMmtRyO~\x1b\ufffdé", k=12))
            keys_of(parser, f"\x1b[{body}", chance.choice("uMt~A"))
        for _ in parser.tick():
            pass
        assert keys_of(parser, "\x1b[201~", "z")[-1:] == ["z"]


PASTED = "one\r\n\ttwo\x1b[31mred\x1b[48;9;9;90;90t\x1b[A\x1b1\x00\x11\x1b[200~\x0c\x85 漢字\x1b[20"
READ_PASTE = "".join("\ufffd" if char in "\x1b\x00\x11\x85" else char for char in PASTED)


def events_of(*parts: str) -> list[str]:
    """Return the keys, and the pastes in brackets, that parts of the input are read as."""
    parser = steady(XTermParser)()
    messages = [event for part in parts for event in parser.feed(part)]
    return [
        message.key
        if isinstance(message, events.Key)
        else f"<{message.text}>"
        if isinstance(message, events.Paste)
        else type(message).__name__
        for message in messages
    ]


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_what_is_in_a_paste_is_text(size: int) -> None:
    data = f"a\x1b[200~{PASTED}\x1b[201~b\x1b[200~\x1b[201~\x1b[A"
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    assert events_of(*parts) == ["a", f"<{READ_PASTE}>", "b", "<>", "up"]


@pytest.mark.fast
def test_the_end_of_the_input_ends_a_paste() -> None:
    assert events_of("\x1b[200~half\x1b[20", "") == ["<half\ufffd[20>"]


@pytest.mark.fast
def test_a_paste_whose_end_never_comes_is_over_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser = steady(XTermParser)()
    assert not [*parser.feed("\x1b[200~half")]
    assert not [*parser.tick()]
    monkeypatch.setattr(input_thread, "PAUSE", -1.0)
    (paste,) = parser.tick()
    assert paste.text == "half"
    assert keys_of(parser, "q\x1b[A") == ["q", "up"]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("parts", "keys"),
    [
        (("\x1b1",), ["escape", "1"]),
        (("\x1b", "2"), ["escape", "2"]),
        (("\x1b\x1b3",), ["escape", "escape", "3"]),
        (("\x1b", "\x1b", "-x"), ["escape", "escape", "minus", "x"]),
        (("\x1b[A\x1b9\x1b[B",), ["up", "escape", "9", "down"]),
        (("\x1b[1", "5~1"), ["f5", "1"]),
        (("\x1b\x1b[200~1\x1b[201~1",), ["escape", "<1>", "1"]),
    ],
)
def test_escape_and_a_digit_in_one_packet_are_two_keys(
    parts: tuple[str, ...], keys: list[str]
) -> None:
    assert events_of(*parts) == keys


@pytest.mark.fast
def test_a_digit_after_an_escape_that_was_read_alone_is_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser = steady(XTermParser)()
    assert not keys_of(parser, "\x1b")
    monkeypatch.setattr("textual._parser.get_time", lambda: float("inf"))
    assert [event.key for event in parser.tick()] == ["escape"]
    assert keys_of(parser, "1[200~") == ["1", "left_square_bracket", "2", "0", "0", "tilde"]


COMMAND = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from llmscope.tui import run
from tests.tui.acting import ActingEngine
run._engine = lambda load, post: ActingEngine(post)
from llmscope.cli import main
main()
"""
"""The whole program but for the engine, whose libraries take seconds to import."""


@pytest.fixture(params=["acting", pytest.param("real", marks=pytest.mark.slow)])
def program(request: Any, terminal: Callable[..., Terminal]) -> Terminal:  # noqa: F811
    """The program with a prompt of three letters, and with an engine that acts or the real one."""
    arguments = ["builtin:sort", "--prompt", "CAB"]
    if request.param == "real":
        return terminal(*arguments)
    return terminal(command=(sys.executable, ["-c", COMMAND, *arguments]))


def test_a_paste_neither_resizes_the_screen_nor_presses_keys(program: Terminal) -> None:
    program.wait("Next token", "CAB")
    program.child.send("\x1b[200~<\x1b[48;5;20;50;200t\x11>\x1b[201~")
    program.wait("CAB<\ufffd[48;5;20;50;200t\ufffd>", "Next token")
    program.child.send("\x1b1")  # leaves the prompt, and asks for the first workspace
    program.child.send("\x1b[200~!\x1b[201~")
    assert "¡" not in program.wait("Pasted into the figures")
    assert program.leave("\x11") == 0


def test_any_bytes_can_be_pasted(program: Terminal) -> None:
    program.wait("Next token")
    program.child.send(LATIN)
    program.wait(READ)
    program.child.send(b"\x1b[200~" + LATIN + b"!\x1b[201~")
    program.wait(READ + "!")
    for part in (b"<\xe6\xbc", b"\xa2\xe5", b"\xad\x97>"):  # a character over several reads
        program.child.send(part)
        program.read(0.1)
    program.wait("<漢字>")
    program.child.send(b"(\x9b\xff\xc0\xaf)")
    program.wait("(\ufffd\ufffd\ufffd\ufffd)")
    chance = random.Random(7)
    for _ in range(20):
        program.child.send(bytes(chance.choices([*range(32, 127), *range(128, 256)], k=30)))
        program.read(0.02)
    program.child.send(b"END")
    program.wait("END")
    assert program.leave("\x11") == 0


PROGRAM = f"""
import sys
from llmscope.tui.app import LlmscopeApp
from textual.drivers.linux_driver import LinuxDriver

befall = sys.argv[1]

def fail(*_):
    raise OSError("the card is broken")

def ready(app):
    if befall == "reading":
        LinuxDriver.process_message = fail
    elif befall == "panic":
        app.call_later(app.panic, "the card is broken")
    elif befall == "closed":
        app.call_later(app._close_messages_no_wait)
    elif befall == "narrow":
        app.call_later(fail)
    elif befall == "failed, then left":
        app.call_later(app._handle_exception, OSError("the card is broken"))
        app.call_later(app.exit, 0)
        app._close_messages_no_wait = lambda: None  # the key is there before the end
    elif befall == "left, then failed":
        app.call_later(app.exit, 0)
        app.call_later(fail)

begin = LlmscopeApp._begin
def begin_then(app):
    begin(app)
    ready(app)
LlmscopeApp._begin = begin_then
{guard.PROGRAM}
"""


@pytest.fixture
def befallen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., guard.Terminal]:
    """A function: the program, to which something happens once it has begun."""
    monkeypatch.setattr(guard, "PROGRAM", PROGRAM)
    return lambda *arguments: guard.Terminal(tmp_path, *arguments)


@pytest.mark.parametrize("befall", ["reading", "panic", "closed"])
@pytest.mark.parametrize("debug", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_end_is_silent(befallen: Any, befall: str, debug: bool) -> None:
    program = befallen(befall, "kept", *(["debug"] if debug else []))
    if befall == "reading":
        program.read_until("there are no weights")
        program.child.send("x")
    assert program.finish() == 1
    program.assert_clean()
    after = program.output[program.output.rfind(b"\x1b[?1049l") :]
    assert b"error: the screen failed: " in after
    assert (b"Traceback" in after) == (debug and befall == "reading")


def test_leaving_does_not_hide_an_error_before_it(befallen: Any) -> None:
    program = befallen("failed, then left", "kept")
    assert program.finish() == 1
    after = program.output[program.output.rfind(b"\x1b[?1049l") :]
    assert b"error: the screen failed: OSError: the card is broken" in after


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_while_the_app_closes_is_told_with_debug(befallen: Any, debug: bool) -> None:
    """Its widgets are gone one by one; the user has left, and the exit code says so."""
    program = befallen("left, then failed", "kept", *(["debug"] if debug else []))
    assert program.finish() == 0
    program.assert_clean()
    after = program.output[program.output.rfind(b"\x1b[?1049l") :]
    assert b"error: " not in after
    assert (b"OSError: the card is broken" in after) == debug


@pytest.mark.parametrize("columns", [1, 20])
def test_a_traceback_is_printed_plainly_on_a_narrow_terminal(
    befallen: Any, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    spawn = pexpect.spawn
    monkeypatch.setattr(
        pexpect, "spawn", lambda *a, **kw: spawn(*a, **{**kw, "dimensions": (3, columns)})
    )
    program = befallen("narrow", "kept", "debug")
    assert program.finish() == 1
    after = program.output[program.output.rfind(b"\x1b[?1049l") :].decode()
    assert "Traceback (most recent call last):\r\n" in after
    assert any(line.endswith(", in fail") for line in after.splitlines())
    assert "\r\nOSError: the card is broken\r\n" in after
    assert "error: the screen failed: OSError: the card is broken" in after


@pytest.mark.skipif(not hasattr(signal, "SIGQUIT"), reason="there is no such signal here")
def test_sigquit_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    program = guard.Terminal(tmp_path, "quiet", "The capital")
    program.read_until("there are no weights", "The capital")
    program.child.kill(signal.SIGQUIT)
    assert program.finish() == -1
    assert program.child.signalstatus == signal.SIGQUIT
    program.assert_clean()


def test_a_terminal_that_hangs_up_ends_a_program_that_ignores_it(tmp_path: Path) -> None:
    """Below nohup no signal comes: it would read the end of its input for ever."""
    environ = {**os.environ, "TERM": "xterm-256color", "LLMSCOPE_STATE": str(tmp_path / "state")}
    child = pexpect.spawn(
        sys.executable,
        ["-c", guard.PROGRAM, "quiet", "typed long ago"],
        env=environ,
        ignore_sighup=True,
        timeout=30,
    )
    child.expect_exact(b"weights")
    os.close(child.child_fd)
    until = time.monotonic() + 30
    status = None
    while status is None and time.monotonic() < until:
        pid, code = os.waitpid(child.pid, os.WNOHANG)
        status = code if pid else None
        time.sleep(0.05)
    child.closed = child.terminated = True
    if status is None:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    assert status is not None, "it goes on without a terminal"
    assert os.waitstatus_to_exitcode(status) == 1
    assert guard.prompts_in(tmp_path / "state") == {"gpt2": "typed long ago"}
