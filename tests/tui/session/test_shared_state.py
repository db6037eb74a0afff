"""A state to hand on: saved as a file, copied as a command, and opened as it was."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from llmscope.cli.launch import opening
from llmscope.errors import ScopeError
from llmscope.support.lines import LIMITS
from llmscope.support.text import controls
from llmscope.tui.session.session import StoredFocus, StoredSession
from llmscope.tui.session.shared_state import command, file_text, read_state, state_of
from llmscope.tui.user_state import UserState
from tests.cli.running import failure
from tests.stored import saved_session
from tests.test_terminal import Terminal, terminal  # noqa: F401
from tests.tui.conftest import PROMPT, Open
from tests.tui.conftest import Session as Opened
from tests.tui.session.test_kept_states import TEXTS, groups, host_of, view_states
from tests.tui.session.test_session import JSON, WAYS, seen

Start = Callable[..., Terminal]
ODD = "a'b\"c\n\t\x1b[31m\u202e\ud83d \u6f22"


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("LLMSCOPE_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)


def word_of(line: str) -> str:
    """The state in a copied command, as a shell hands it to the program."""
    program, verb, word = shlex.split(line)
    assert (program, verb) == ("llmscope", "open")
    return word


@given(view_states(), TEXTS, st.lists(groups(), max_size=2).map(tuple))
def test_a_command_and_a_file_hold_the_whole_state(state: Any, text: str, made: Any) -> None:
    session = state_of(host_of(state, text, made, system=ODD))
    line = command(session)
    assert "\n" not in line
    assert not controls(line)
    line.encode()  # no lone surrogate
    assert read_state(word_of(line)) == replace_folder(session, "")
    assert json.loads(file_text(session))["state"] == 1


def replace_folder(session: StoredSession, folder: str) -> StoredSession:
    import msgspec

    return msgspec.structs.replace(session, folder=folder)


def test_a_file_is_read_back_and_its_paths_are_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "handed").mkdir()
    (tmp_path / "handed" / "model").mkdir()
    session = StoredSession(
        "./model", prompt=ODD, edits=(("zero layer 0", True),), folder="/not/here"
    )
    path = tmp_path / "handed" / "of us.json"
    path.write_text(file_text(session))
    assert not any(controls(line) for line in path.read_text().split("\n"))
    assert read_state(str(path)) == replace_folder(session, str(path.parent))
    found = opening(str(path))
    assert Path(found.load.model or "").resolve() == tmp_path / "handed" / "model"
    assert found.session is not None
    assert found.session.prompt == ODD


def test_what_belongs_to_a_machine_or_lets_foreign_code_run_is_not_taken() -> None:
    flags = ["--device", "cuda", "--threads", "64", "--spill", "/x", "--trust-remote-code"]
    word = json.dumps({"state": 1, "model": "gpt2", "flags": [*flags, "--dtype", "float16"]})
    load = opening(word).load
    assert (load.device, load.threads, load.spill, load.dtype) == ("auto", None, None, "float16")
    assert (load.trust_remote_code, load.allow_pickle) == (False, False)
    host = host_of(
        StoredSession("gpt2").onto(_nothing()),
        "x",
        (),
        options={"device": "cuda", "dtype": "float16"},
    )
    assert state_of(host).flags == ("--dtype", "float16")


def _nothing() -> Any:
    from llmscope.tui.state.view_state import ViewState

    return ViewState()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no state of the screen"),
        ("\x00{", "is no state of the screen"),
        ("[" * 100_000, "is no state of the screen"),
        ('{"schema": 1}', "is no state of the screen"),
        ('{"state": true, "model": "gpt2"}', "is no state of the screen"),
        ('{"state": 2, "model": "gpt2"}', "is a state of a newer llmscope"),
        ('{"state": 1}', "is no valid state"),
        ('{"state": 1, "model": "gpt2", "edits": [["no edit", true]]}', "is no valid state"),
        ('{"state": 1, "model": "gpt2", "cursor": [0, -1]}', "is no valid state"),
    ],
)
def test_a_file_that_is_no_state_costs_a_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(ScopeError, match=said) as caught:
        read_state("f.json")
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScopeError, match=r"gone\.json cannot be read: No such file"):
        opening("gone.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(LIMITS["state"] + 1)
    with pytest.raises(ScopeError, match=r"large\.json cannot be read"):
        opening("large.json")


def test_a_state_says_what_is_opened_and_no_option_does() -> None:
    said = failure("open", '{"state": 1, "model": "gpt2"}', "--prompt", "x", code=2)
    assert "takes no --prompt" in " ".join(said.replace("\u2502", " ").split())


@given(st.sampled_from(StoredSession.__struct_fields__), JSON)
def test_any_value_is_refused_in_a_line_or_opened(name: str, value: Any) -> None:
    word = json.dumps({"state": 1, "model": "gpt2", name: value})
    try:
        session = read_state(word)
    except ScopeError as error:
        line = error.message
    else:
        line = ""
    if line:
        assert "\n" not in line
        return
    session.onto(_nothing())
    assert read_state(word_of(command(session))) == replace_folder(session, "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.few(3)
async def test_the_copied_command_opens_the_same_picture(
    opened: Open, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    async with opened() as session:
        monkeypatch.setattr(session.app, "copy_to_clipboard", copied.append)
        await session.press(*WAYS[way])
        session.app.clear_notifications()
        await session.settle()
        before = seen(session)
        from llmscope.tui.features.copy import menu

        menu.put(session.app, "c")
    (line,) = copied
    left = opening(word_of(line)).session
    assert left is not None
    user = UserState(kept=left.kept, session=left)
    async with opened(prompt=left.prompt, user=user) as session:
        await session.settle()
        await session.settle()
        assert seen(session) == before


async def test_the_state_is_saved_from_the_palette(opened: Open, tmp_path: Path) -> None:
    async with opened() as session:
        await session.press("escape", "x")
        await save_state(session)
        await session.press("enter")
        found = opening("llmscope-state.json").session
        assert found is not None
        assert found.prompt == PROMPT
        assert [text for text, _ in found.edits] == [
            str(listed.edit) for listed in session.app.state.edits
        ]
        await save_state(session)
        assert "llmscope-state-2.json" in session.screen_text()
        await session.press("ctrl+u", *"llmscope-state.json", "enter")
        assert "exists: enter replaces it" in session.screen_text()
        await session.press("enter")
        assert "llmscope open llmscope-state.json" in session.screen_text()
    assert [path.name for path in tmp_path.glob("*.json")] == ["llmscope-state.json"]


async def save_state(session: Opened) -> None:
    from llmscope.tui.actions.registry import BY_NAME

    BY_NAME["save-state"].run(session.app)
    await session.settle()


@pytest.mark.slow
def test_kill_9_loses_nothing_and_the_file_opens_it_too(
    terminal: Start,  # noqa: F811
    tmp_path: Path,
) -> None:
    """In the real program: typed, edited, moved, killed; then the same picture."""
    program = terminal("builtin:sort", columns=160)
    program.wait("Next token")
    program.type("A")
    program.child.send("\x1b")
    program.wait("? help")
    for keys in ("4", "h", "k", "x"):
        program.child.send(keys)
        program.read(0.3)
    program.wait("zero ")

    def saved() -> StoredSession | None:
        session = saved_session()
        return session if session is not None and session.edits else None

    while (left := saved()) is None or left.place == StoredFocus():
        program.read(0.1)
    program.read(1.0)
    before = [line[:60].strip() for line in program.text.split("\n")[1:3]]
    left = saved()
    assert left is not None
    os.kill(program.child.pid, signal.SIGKILL)
    program.read(0.5)
    again = terminal("builtin:sort", columns=160)
    again.wait("zero ", "? help", *before)
    assert again.leave("q") == 0, "the keys are in the figures"
    now = saved_session()
    assert now is not None
    assert asdict(now) == asdict(left)
    (tmp_path / "of us.json").write_text(file_text(left))
    third = terminal("open", "of us.json", columns=160)
    third.wait("zero ", "? help", *before)
    assert third.leave("q") == 0
    for raw in (again.raw, third.raw):
        assert b"Traceback" not in raw
