"""What is kept of several screens that run beside each other, in processes of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmscope.tui.session import prompt_history, recent_models, state_files
from llmscope.tui.session.state_files import flaw, locked, save_prompt, saved_prompt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and links")

WRITES = """
import sys, time
from llmscope.tui.session.prompt_history import PromptRecord, add
from llmscope.tui.session.recent_models import remember
from llmscope.tui.session.state_files import save_prompt
name, at = sys.argv[1], float(sys.argv[2])
while time.time() < at:
    pass
for number in range(5):
    save_prompt(f"{name}-{number}", "text")
    add([PromptRecord(name, f"prompt {number}", 1.0)])
remember(f"org/{name}")
"""
HOLDS = """
import sys, time
from llmscope.tui.session.state_files import locked
with locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(state_files, "_patience", state_files.PATIENCE)
    flaw()
    return tmp_path / "state"


def started(code: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, env=os.environ
    )


def test_what_screens_keep_at_the_same_moment_is_all_there(state: Path) -> None:
    names = ("one", "two", "three")
    at = str(time.time() + 2)
    processes = [started(WRITES, name, at) for name in names]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    prompts = json.loads((state / "prompts.json").read_text())
    assert set(prompts) == {f"{name}-{number}" for name in names for number in range(5)}
    kept = {(one.model, one.text) for one in prompt_history.read()}
    assert kept == {(name, f"prompt {number}") for name in names for number in range(5)}
    assert {one.spec for one in recent_models.recent()} == {f"org/{name}" for name in names}


def test_a_lock_that_is_held_is_waited_for_once_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_files, "_patience", 0.2)
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
    monkeypatch.setattr(state_files, "_patience", 30.0)
    save_prompt("c", "text")
    assert (saved_prompt("a"), saved_prompt("c")) == ("text", "text")
    assert flaw() == ""


def test_a_folder_that_cannot_be_written_is_told(state: Path) -> None:
    state.write_text("a file in the place of the folder")
    save_prompt("a", "text")
    prompt_history.add([prompt_history.PromptRecord("a", "text", 1.0)])
    assert "cannot keep anything" in flaw()


@pytest.mark.parametrize("name", ["prompts.json", "history.jsonl", ".lock"])
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
    state.mkdir()
    long = "x" * 50_000
    models = [[long, ""], ["a", f"/{long}"], ["b", "/a\0b"], [f"./{long}", "/tmp"], ["org/b", ""]]
    (state / "recent.json").write_text(json.dumps({"models": models}))
    assert [one.spec for one in recent_models.recent()] == ["org/b"]
    recent_models.remember(f"./{long}")
    recent_models.remember("org/c")
    assert [one.spec for one in recent_models.recent()] == ["org/c", "org/b"]


def test_a_file_that_is_far_too_long_is_not_read(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_prompt("a", "text")
    monkeypatch.setattr(state_files, "LARGEST", 5)
    assert saved_prompt("a") == ""


def test_the_lock_is_let_go_of_when_what_it_is_for_fails() -> None:
    with pytest.raises(RuntimeError), locked():
        raise RuntimeError
    save_prompt("a", "text")
    assert flaw() == ""
