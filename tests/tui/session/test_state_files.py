"""What is kept of several screens that run beside each other, in processes of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmscope.support.lines import LIMITS
from llmscope.tui.session import prompt_history, recent_models, state_folder
from llmscope.tui.session.autosave import DELAY, Autosave
from llmscope.tui.session.state_file import STATE
from llmscope.tui.session.state_folder import flaw, locked
from llmscope.tui.user_state import UserState
from tests.stored import part_in, prompts_in, put_into, save, save_prompt, saved_prompt, saved_theme
from tests.tui.conftest import PROMPT, Open

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and links")

WRITES = """
import sys, time
from llmscope.tui.session.prompt_history import PromptRecord, add
from llmscope.tui.session.recent_models import remember
from llmscope.tui.session.state_file import changing
from llmscope.tui.session.stored_prompts import keep
from llmscope.tui.session.undo_history import UndoHistory
name, at = sys.argv[1], float(sys.argv[2])
while time.time() < at:
    pass
for number in range(5):
    with changing() as state:
        keep(state, f"{name}-{number}", "text", UndoHistory())
    add([PromptRecord(name, f"prompt {number}", 1.0)])
remember(f"org/{name}")
"""
CHOOSES = """
from llmscope.tui.session.state_file import changing
with changing() as state:
    state.put("theme", "abyss")
"""
HOLDS = """
import sys, time
from llmscope.tui.session.state_folder import locked
with locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(state_folder, "_patience", state_folder.PATIENCE)
    flaw()
    return tmp_path / "state"


def started(code: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=os.environ
    )


@pytest.mark.slow
def test_what_screens_keep_at_the_same_moment_is_all_there(state: Path) -> None:
    names = ("one", "two", "three")
    at = str(time.time() + 2)
    processes = [started(WRITES, name, at) for name in names]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    prompts = prompts_in(state)
    assert set(prompts) == {f"{name}-{number}" for name in names for number in range(5)}
    kept = {(one.model, one.text) for one in prompt_history.read()}
    assert kept == {(name, f"prompt {number}") for name in names for number in range(5)}
    assert {one.spec for one in recent_models.recent()} == {f"org/{name}" for name in names}


def test_a_lock_that_is_held_is_waited_for_once_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_folder, "_patience", 0.2)
    holder = started(HOLDS)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        begun = time.monotonic()
        save_prompt("a", "text")
        save_prompt("b", "text")
        assert time.monotonic() - begun < 10  # of a machine that is busy with something else
        assert (saved_prompt("a"), saved_prompt("b")) == ("text", "text")
        assert "writing without" in flaw()
        assert flaw() == ""
    finally:
        holder.kill()  # which ends its lock too
        holder.wait()
    monkeypatch.setattr(state_folder, "_patience", 30.0)
    save_prompt("c", "text")
    assert (saved_prompt("a"), saved_prompt("c")) == ("text", "text")
    assert flaw() == ""


def test_a_theme_that_is_chosen_meanwhile_undoes_no_prompt(state: Path) -> None:
    save_prompt("a", "text")
    assert started(CHOOSES).wait(60) == 0
    save_prompt("b", "text")
    assert (saved_theme(), saved_prompt("a"), saved_prompt("b")) == ("abyss", "text", "text")
    save("theme", "vellum")
    assert (saved_theme(), saved_prompt("a"), saved_prompt("b")) == ("vellum", "text", "text")


def test_what_a_later_version_adds_stays(state: Path) -> None:
    put_into(state, more={"a": [1]}, prompts={"a": "text"})
    save_prompt("b", "text")
    assert part_in(state, "more") == {"a": [1]}


@pytest.mark.parametrize("text", ["\ud800", "\udc80 \ud83d\ude00 漢\n\x10\\ud800", "🙂\ud83d"])
def test_text_that_is_no_unicode_comes_back_as_it_was(state: Path, text: str) -> None:
    save_prompt("a", text)
    save_prompt(f"./{text}", "of a model with an odd name")
    assert (saved_prompt("a"), saved_prompt(f"./{text}")) == (text, "of a model with an odd name")
    save("theme", "abyss")
    assert saved_prompt("a") == text
    assert flaw() == ""


def test_nothing_is_written_where_nothing_changes(state: Path) -> None:
    save_prompt("a", "")
    assert not (state / STATE).exists()
    save_prompt("a", "text")
    before = (state / STATE).stat()
    save_prompt("a", "text")
    save_prompt("c", "")
    after = (state / STATE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_set_aside_is_not_overwritten(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into(state, schema=2)

    def fails(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(Path, "rename", fails)
    save_prompt("a", "text")
    assert part_in(state, "schema") == 2
    assert "cannot keep anything: no" in flaw()


def test_a_folder_that_cannot_be_written_is_told(state: Path) -> None:
    state.write_text("a file in the place of the folder")
    save_prompt("a", "text")
    prompt_history.add([prompt_history.PromptRecord("a", "text", 1.0)])
    assert "cannot keep anything" in flaw()


async def test_such_a_folder_costs_one_notice_and_nothing_else(opened: Open, state: Path) -> None:
    state.write_text("a file in the place of the folder")
    autosave = Autosave("m", PROMPT)
    async with opened(user=UserState(autosave=autosave)) as session:
        for _ in range(4):
            await session.press("x")
            await session.pilot.pause(DELAY * 1.2)
        (notice,) = [one.message for one in session.app._notifications]
        assert "cannot keep anything" in notice
        assert session.app.text == f"{PROMPT}xxxx"
    autosave.close()


@pytest.mark.parametrize("name", ["state.json", "history.jsonl", ".lock"])
def test_nothing_is_written_through_a_link(state: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    state.mkdir()
    (state / name).symlink_to(mine)
    save_prompt("a", "text")
    prompt_history.add([prompt_history.PromptRecord("a", "text", 1.0)])
    assert mine.read_text() == "mine"
    assert saved_prompt("a") == "text"
    assert [one.text for one in prompt_history.read()] == ["text"]


def test_names_that_no_file_can_have(state: Path) -> None:
    long = "x" * 50_000
    models = [[long, ""], ["a", f"/{long}"], ["b", "/a\0b"], [f"./{long}", "/tmp"], ["org/b", ""]]
    put_into(state, recent=models)
    assert [one.spec for one in recent_models.recent()] == ["org/b"]
    recent_models.remember(f"./{long}")
    recent_models.remember("org/c")
    assert [one.spec for one in recent_models.recent()] == ["org/c", "org/b"]


def test_a_file_that_is_far_too_long_is_not_read(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_prompt("a", "text")
    content = (state / STATE).read_bytes()
    monkeypatch.setitem(LIMITS, "state", 5)
    assert saved_prompt("a") == ""
    save_prompt("b", "text")
    assert (state / f"{STATE}.bad").read_bytes() == content
    assert "set aside" in flaw()


def test_the_lock_is_let_go_of_when_what_it_is_for_fails() -> None:
    with pytest.raises(RuntimeError), locked():
        raise RuntimeError
    save_prompt("a", "text")
    assert flaw() == ""
