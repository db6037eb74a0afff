"""The files of 0.1, as it wrote them, become one, and nothing in them is lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmscope.models.sampler import Sampler
from llmscope.tui.session.recent_models import Recent
from llmscope.tui.session.session import StoredFocus, StoredSession
from llmscope.tui.session.state_file import STATE, changing, open_state, read_state
from llmscope.tui.session.state_folder import LOCK, flaw
from llmscope.tui.session.stored_prompts import past_of, prompt_of
from llmscope.tui.session.undo_history import TextChange, UndoHistory
from llmscope.tui.state.layout import Arrangement
from llmscope.tui.state.layout_state import LayoutState

SCREEN = (
    '{"workspace": "heads", "panes": {"overview": {"order": ["attention", "theirs", "mlp"], '
    '"hidden": ["mlp"]}}, "view": ["logit-lens", "top"], "attention": "max"}'
)
FILES = {
    "theme": "abyss\n",
    "screen.json": SCREEN,
    "prompts.json": r'{"gpt2": "ab\n\u6f22", "./m\udc80": "cd\ud800", "other": "what is new"}',
    "recent.json": '{"models": [["gpt2", ""], ["./mine", "/no/such/mine"]]}',
    "session.json": (
        '{"schema": 1, "model": "gpt2", "flags": ["--device", "cpu"], "adapters": [], '
        '"folder": "/", "special_tokens": true, "prompt": "ab\\n漢 \ud83d", "cursor": [1, 1], '
        '"pane": "map", "kept": ' + SCREEN + ', "place": {"layer": 1, "head": 0, "position": 2, '
        '"target": null, "versus": null, "neuron": null, "step": null, "weight": null}, '
        '"marks": ["following", "muted"], "adapter": null, "edits": [["zero head 1.0", true]], '
        '"chosen": 0, "turns": [["mlp", 1]], "versus_prompt": null, "words": ["a", "b"], '
        '"sampler": {"temperature": 0.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 7}}'
    ),
    "edits/a95e2b7b.json": (
        '{"model": "gpt2", "schema": 1, "text": "ab\\n漢", '
        '"undo": [[[0, 1, "", "b"]], [[0, 2, "", "\\n漢"]]], "redo": [[[0, 0, "", "x"]]]}'
    ),
    "edits/00000001.json": (
        '{"model": "./m\udc80", "schema": 1, "text": "cd\ud800", '
        '"undo": [[[0, 2, "", "\ud800"]]], "redo": []}'
    ),
    "edits/00000002.json": (
        '{"model": "other", "schema": 1, "text": "what was", "undo": [[[0, 1, "", "h"]]], '
        '"redo": []}'
    ),
}
HISTORY = '{"schema": 1}\n{"time": 1764000000, "model": "gpt2", "text": "ab"}\n'
LAYOUT = LayoutState(
    "heads",
    {"overview": Arrangement(("attention", "theirs", "mlp"), frozenset({"mlp"}))},
    ("logit-lens", "top"),
    "max",
)
SESSION = StoredSession(
    model="gpt2",
    flags=("--device", "cpu"),
    adapters=(),
    folder="/",
    special_tokens=True,
    prompt="ab\n漢 \ud83d",
    cursor=(1, 1),
    pane="map",
    kept=LAYOUT,
    place=StoredFocus(1, 0, 2, None, None, None, None, None),
    marks=frozenset({"following", "muted"}),
    adapter=None,
    edits=(("zero head 1.0", True),),
    chosen=0,
    turns=(("mlp", 1),),
    versus_prompt=None,
    words=("a", "b"),
    sampler=Sampler(temperature=0.5, seed=7),
)


@pytest.fixture(autouse=True)
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of 0.1."""
    folder = tmp_path / "state"
    monkeypatch.setenv("LLMSCOPE_STATE", str(folder))
    (folder / "edits").mkdir(parents=True)
    for name, text in {**FILES, "history.jsonl": HISTORY}.items():
        (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    (folder / LOCK).touch()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def assert_all_there() -> None:
    state = read_state()
    assert state.get("theme", str) == "abyss"
    assert state.get("layout", LayoutState) == LAYOUT
    assert prompt_of(state, "gpt2") == "ab\n漢"
    assert prompt_of(state, "./m\udc80") == "cd\ud800"
    assert prompt_of(state, "other") == "what is new"
    assert state.get("recent", list[Recent]) == [("gpt2", ""), ("./mine", "/no/such/mine")]
    assert state.get("session", StoredSession, StoredSession.check) == SESSION
    assert past_of(state, "gpt2") == UndoHistory(
        ((TextChange(0, 1, "", "b"),), (TextChange(0, 2, "", "\n漢"),)),
        ((TextChange(0, 0, "", "x"),),),
    )
    assert past_of(state, "./m\udc80") == UndoHistory(((TextChange(0, 2, "", "\ud800"),),))
    assert past_of(state, "other") == UndoHistory(), "it led to another text"
    assert state.invalid == set()


def test_reading_changes_nothing(old: Path) -> None:
    before = names(old)
    assert_all_there()
    assert names(old) == before


def test_a_start_puts_all_into_one_file_and_removes_the_old_ones(old: Path) -> None:
    open_state()
    assert names(old) == [LOCK, "history.jsonl", STATE]
    assert not (old / "edits").exists()
    assert_all_there()
    assert (old / "history.jsonl").read_text() == HISTORY
    assert flaw() == ""
    content = (old / STATE).read_bytes()
    open_state()
    assert (old / STATE).read_bytes() == content


def test_a_change_before_any_start_does_too(old: Path) -> None:
    with changing() as state:
        state.put("theme", "vellum")
    assert names(old) == [LOCK, "history.jsonl", STATE]
    assert read_state().get("theme", str) == "vellum"
    assert prompt_of(read_state(), "gpt2") == "ab\n漢"


def test_the_old_files_stay_until_the_new_one_is_safe(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(old)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        assert prompt_of(open_state(), "gpt2") == "ab\n漢"
        assert names(old) == before
        assert "No space left on device" in flaw()
    open_state()
    assert names(old) == [LOCK, "history.jsonl", STATE]
    assert_all_there()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"\x00 once {\xff", b"\xff"])
def test_an_old_file_that_cannot_be_read_is_set_aside_and_the_others_are_not(
    old: Path, name: str, content: bytes
) -> None:
    (old / name).write_bytes(content)
    open_state()
    assert names(old) == sorted([LOCK, f"{name}.bad", "history.jsonl", STATE])
    assert (old / f"{name}.bad").read_bytes() == content
    short = name.rpartition("/")[2]
    assert flaw() == f"what an earlier session left cannot be read: set aside as {short}.bad"
    state = read_state()
    assert prompt_of(state, "gpt2") == "ab\n漢", "it is in two files"
    assert state.get("theme", str) == (None if name == "theme" else "abyss")
    open_state()
    assert flaw() == ""


def test_old_files_none_of_which_can_be_read_are_all_set_aside(old: Path) -> None:
    for name in FILES:
        (old / name).write_bytes(b"\xff")
    open_state()
    assert names(old) == sorted([LOCK, "history.jsonl", STATE, *(f"{name}.bad" for name in FILES)])
    assert flaw().count("set aside") == len(FILES)
    assert read_state().parts.keys() == {"schema"}


@pytest.mark.parametrize("name", ["session.json", "edits/a95e2b7b.json"])
def test_an_old_file_of_another_schema_is_set_aside(old: Path, name: str) -> None:
    (old / name).write_text('{"schema": 99}')
    open_state()
    assert (old / f"{name}.bad").read_text() == '{"schema": 99}'
    assert "set aside" in flaw()


def test_once_there_is_a_state_nothing_old_is_read(old: Path) -> None:
    open_state()
    (old / "prompts.json").write_text('{"gpt2": "of 0.1, which came back"}')
    assert prompt_of(open_state(), "gpt2") == "ab\n漢"
    assert (old / "prompts.json").is_file(), "nor removed"
