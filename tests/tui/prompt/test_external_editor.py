"""The prompt in an editor of one's own, which is a small script here."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmscope.tui.prompt import external_editor
from llmscope.tui.prompt.external_editor import editor_of
from tests.stored import prompts_in
from tests.test_terminal import Terminal, terminal  # noqa: F401
from tests.tui.conftest import PROMPT, Open

Start = Callable[..., Terminal]


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that makes an editor of some lines of Python; `path` is the file.

    Temporary files go to a folder of their own.
    """
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "files"))
    monkeypatch.delenv("VISUAL", raising=False)

    def make(lines: str) -> Path:
        script = tmp_path / "my editor.py"
        begin = "import os, sys, signal\nfrom pathlib import Path\npath = Path(sys.argv[-1])\n"
        script.write_text(begin + lines)
        # A notice names the first word: a long path would break its line where a test looks.
        monkeypatch.setenv("EDITOR", f"env {sys.executable} '{script}' --wait")
        return script

    return make


def saved(tmp_path: Path) -> str:
    return str(prompts_in(tmp_path / "state")["builtin:sort"])


def files(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "files").glob("llmscope-*"))


@pytest.mark.slow
def test_the_prompt_goes_there_and_comes_back_as_one_step(
    terminal: Start,  # noqa: F811
    editor: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    editor(f"""
note = Path({str(tmp_path / "note")!r})
note.write_text(repr((path.read_text(), oct(os.stat(path).st_mode), sys.argv[1], os.isatty(1))))
print("THE EDITOR IS HERE", flush=True)
input()
path.write_text("BACA\\n")
""")
    program = terminal("builtin:sort", "--prompt", "CAB")
    program.wait("Next token")
    modes = program.modes
    program.type("C")
    program.wait("CABC")
    program.child.send("\x07")  # ctrl+g
    program.wait("THE EDITOR IS HERE")
    # The terminal is as it was before: lines and echo.
    assert program.modes == program.before != modes
    assert saved(tmp_path) == "CABC", "it is saved before the editor has it"
    program.child.send("\r")
    program.wait("BACA", "Next token")
    assert program.modes == modes
    assert (tmp_path / "note").read_text() == repr(("CABC", "0o100600", "--wait", True))
    assert files(tmp_path) == []
    program.child.send("\x1a")  # undo
    program.wait("CABC")
    program.child.send("\x19")  # and redo
    program.wait("│ BACA ")
    program.type("B")
    program.wait("BACAB")
    assert program.leave("\x11") == 0
    assert saved(tmp_path) == "BACAB"


FAILURES = [
    ("path.write_text('lost?'); sys.exit(3)", "ended with status 3", b"lost?"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9", None),
    ("path.write_bytes(b'AB\\xe4')", "not UTF-8 (byte 2)", b"AB\xe4"),
    ("path.unlink()", "the file is gone", None),
    ("pass", "nothing was changed", None),
]
"""What the editor does, what is told, and what is left of the file."""


@pytest.mark.slow
def test_what_goes_wrong_is_told_and_loses_nothing(
    terminal: Start,  # noqa: F811
    editor: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    turn = tmp_path / "turn"
    editor(f"exec(Path({str(turn)!r}).read_text())")
    program = terminal("builtin:sort", "--prompt", "CAB", columns=200)
    program.wait("Next token")
    for number, (lines, said, kept) in enumerate(FAILURES, 1):
        turn.write_text(lines)
        program.child.send("C\x07")
        assert f"CAB{'C' * number}" in program.wait(said)
        found = files(tmp_path)
        assert [path.read_bytes() for path in found] == ([] if kept is None else [kept])
        for path in found:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.unlink()
    program.type("A")  # it goes on
    program.wait("CABCCCCCA")
    assert program.leave("\x11") == 0
    assert saved(tmp_path) == "CABCCCCCA"


@pytest.mark.slow
def test_ctrl_c_is_the_editors(
    terminal: Start,  # noqa: F811
    editor: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    editor("""
print("THE EDITOR IS HERE", flush=True)
try:
    input()
except KeyboardInterrupt:
    path.write_text("BBB")
""")
    program = terminal("builtin:sort", "--prompt", "CAB")
    program.wait("Next token")
    program.child.send("\x07")
    program.wait("THE EDITOR IS HERE")
    program.child.send("\x03")
    program.wait("BBB", "Next token")
    assert program.leave("\x11") == 0
    assert saved(tmp_path) == "BBB"


@pytest.mark.slow
def test_one_that_cannot_be_started(
    terminal: Start,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor -x")
    program = terminal("builtin:sort", "--prompt", "CAB", columns=200)
    program.wait("Next token")
    program.child.send("\x07")
    assert "CAB" in program.wait("no-such-editor cannot be started")
    assert program.leave("\x11") == 0


async def test_none_is_set(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", " ")
    async with opened() as session:
        await session.press("ctrl+g")
        assert "no editor: set VISUAL or EDITOR" in session.screen_text()
        assert session.app.editor.text == PROMPT


async def test_a_screen_that_cannot_make_room(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    async with opened() as session:
        await session.press("ctrl+g")
        assert "cannot make room" in session.screen_text()
        assert session.app.editor.text == PROMPT


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, []),
        ({"EDITOR": "vim"}, ["vim"]),
        ({"EDITOR": "vim", "VISUAL": "code --wait"}, ["code", "--wait"]),
        ({"EDITOR": "vim", "VISUAL": "  "}, ["vim"]),
        ({"EDITOR": "'/my apps/ed' -f"}, ["/my apps/ed", "-f"]),
        ({"EDITOR": "it's"}, ["it's"]),
    ],
)
def test_whose_editor_it_is(environ: dict[str, str], words: list[str]) -> None:
    assert editor_of(environ) == words


@pytest.mark.parametrize(
    ("before", "data", "taken"),
    [
        ("a", b"b\n", "b"),
        ("a", b"b\r\n", "b"),
        ("a", b"b\n\n", "b\n"),
        ("a\n", b"b\n", "b\n"),
        ("a", "\ufeffé".encode(), "é"),
        ("a", b"", ""),
    ],
)
def test_the_last_line_need_not_end(before: str, data: bytes, taken: str) -> None:
    assert external_editor._read_edited_text(data, before) == taken
