"""The terminal asked for its background: its answer, what is typed meanwhile, what comes late."""

from __future__ import annotations

import json
import os
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from llmscope.tui.terminal.background_color import PATIENCE, dark_by_environment

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

PROGRAM = """
import json, os, sys, time
from llmscope.tui.terminal.background_color import asking
print("ready", flush=True)
with asking(os.environ) as question:
    time.sleep(float(os.environ.get("WORK", "0")))
    answer = question.answer()
print(json.dumps([answer.dark, answer.why, answer.typed]), flush=True)
"""
ASKED = b"\x1b]11;?\x1b\\\x1b[c"
NAME = b"\x1b[?62;22c"


def told(*replies: tuple[float, bytes], **environment: str) -> tuple[list[Any], bytes]:
    """What is made of a terminal that sends these bytes so long after it was asked."""
    base = {key: value for key, value in os.environ.items() if key not in ("COLORFGBG", "TERM")}
    environ = {**base, "TERM": "xterm-256color", **environment}
    child = pexpect.spawn(sys.executable, ["-c", PROGRAM], env=environ, timeout=30)
    child.setecho(True)
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact(b"ready\r\n")
    asks = environ["TERM"] not in ("linux", "dumb", "")
    if asks:
        child.expect_exact(ASKED)
    begun = time.monotonic()
    for after, data in replies:
        time.sleep(max(0, begun + after - time.monotonic()))
        child.send(data)
    child.expect(rb"\[(?:true|false|null), .*\]\r\n")
    answer, shown = json.loads(child.after), child.before
    assert termios.tcgetattr(child.child_fd) == before
    child.expect(pexpect.EOF)
    return answer, shown + child.before


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("reply", "dark"),
    [
        (b"\x1b]11;rgb:0d0d/1010/1515\x1b\\", True),
        (b"\x1b]11;rgb:fbfb/fafa/f7f7\x07", False),
        (b"\x1b]11;rgb:ff/ff/ff\x1b\\", False),
        (b"\x1b]11;rgba:0000/0000/0000/cccc\x1b\\", True),
        (b"\x1b]11;rgb:0/0/8\x07", True),
        (b"\x1b]11;rgb:fd00/f600/e300\x1b\\", False),
    ],
)
def test_the_terminal_tells(reply: bytes, dark: bool) -> None:
    answer, shown = told((0, reply + NAME))
    assert answer == [dark, "the terminal says so", ""]
    assert shown == b""  # nothing was echoed


def test_letters_typed_meanwhile_are_kept_and_keys_are_not() -> None:
    answer, shown = told(
        (0, b"ab\x1b[A"), (0.05, b"\x1b]11;rgb:ff/ff/ff\x07c" + NAME + "é".encode())
    )
    assert answer[0] is False
    assert answer[2] in ("abc", "abcé")
    assert shown == b""


def test_a_terminal_that_knows_only_its_name_is_not_waited_for() -> None:
    answer, shown = told((0, NAME), COLORFGBG="0;15")
    assert answer == [False, "COLORFGBG says so", ""]
    assert shown == b""


def test_one_that_never_answers_is_not_waited_for_ever() -> None:
    answer, _ = told()
    assert answer == [None, "", ""]


def test_an_answer_counts_however_long_the_work_took_meanwhile() -> None:
    """A busy machine imports for longer than a silent terminal is waited for."""
    answer, _ = told((0, b"\x1b]11;rgb:ff/ff/ff\x1b\\a" + NAME), WORK=str(2 * PATIENCE))
    assert answer == [False, "the terminal says so", "a"]


def test_an_answer_in_two_halves_is_one() -> None:
    answer, _ = told((0, b"\x1b]11;rgb:ffff/ff"), (0.1, b"ff/ffff\x1b\\" + NAME))
    assert answer[0] is False


@pytest.mark.parametrize("term", ["linux", "dumb"])
def test_those_that_would_print_the_question_are_not_asked(term: str) -> None:
    answer, shown = told(TERM=term, COLORFGBG="0;15")
    assert answer[0] is False
    assert b"\x1b" not in shown


@pytest.mark.parametrize(
    ("value", "dark"),
    [
        ("15;0", True),
        ("0;15", False),
        ("15;default;0", True),
        ("7;8", True),
        ("0;7", False),
        ("0;default", None),
        ("", None),
        ("x;99", None),
    ],
)
def test_colorfgbg(value: str, dark: bool | None) -> None:
    assert dark_by_environment({"COLORFGBG": value}) is dark
    assert dark_by_environment({}) is None


LATE = """
import sys
from textual.drivers import linux_driver
from llmscope.tui.terminal.background_color import swallow_late_answers
swallow_late_answers()
swallow_late_answers()
parser = linux_driver.XTermParser()
keys = []
for part in eval(sys.argv[1]):
    keys += [getattr(event, "key", type(event).__name__) for event in parser.feed(part)]
print(" ".join(keys))
"""


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("parts", "keys"),
    [
        (["a\x1b]11;rgb:ff/ff/ff\x1b\\b\x1b[?62;22cc"], "a b c"),
        (["a\x1b]11;rgb:ff", "/ff/ff\x07b"], "a b"),
        (["a\x1b[?62", ";22cb"], "a b"),
        (["a\x1b]11;rgb:ff/ff/ff\x1b", "\\b"], "a b"),
        (["\x1b[A\x1b[?2026;2$yx"], "up TerminalSupportsSynchronizedOutput x"),
        (["\x1b[?2026", ";2$yx"], "TerminalSupportsSynchronizedOutput x"),
    ],
)
def test_answers_that_come_late_are_no_keys(parts: list[str], keys: str) -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", LATE, repr(parts)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == keys


@pytest.mark.slow
def test_the_program_takes_the_light_theme_on_a_light_ground(tmp_path: Path) -> None:
    """And what was typed before the screen was there is in the prompt, the answer is not."""
    from llmscope.draw import load_theme
    from llmscope.draw.color.arithmetic import parse_hex

    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "SSH_CONNECTION")}
    environ = {**base, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    environ |= {"LLMSCOPE_STATE": str(tmp_path), "LLMSCOPE_CONFIG": str(tmp_path)}
    arguments = ["-m", "llmscope", "builtin:sort", "--prompt", "CAB"]
    child = pexpect.spawn(sys.executable, arguments, env=environ, timeout=60, dimensions=(24, 80))
    child.expect_exact(ASKED)
    child.send(b"A\x1b]11;rgb:ffff/ffff/ffff\x1b\\" + NAME)
    red, green, blue = parse_hex(load_theme("light").background)
    child.expect_exact(f"48;2;{red};{green};{blue}".encode())
    screen = pyte.Screen(80, 24)
    stream = pyte.ByteStream(screen)
    stream.feed(child.before + child.after)
    until = time.monotonic() + 60

    def drawn() -> bool:  # both: a frame may come in several pieces
        return "4 tokens" in screen.display[0] and "CABA" in screen.display[2]

    while not drawn() and time.monotonic() < until:
        stream.feed(child.read_nonblocking(65536, timeout=60))
    assert drawn(), "\n".join(screen.display)
    assert "rgb" not in "\n".join(screen.display)
    child.send("\x11")
    child.expect(pexpect.EOF)
