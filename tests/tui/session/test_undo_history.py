"""Undo across sessions: what is kept of the prompt's edits, and what the next start makes of it."""

from __future__ import annotations

import cProfile
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.document._document import Selection
from textual.document._edit import Edit
from textual.document._history import EditHistory

from llmscope.tui.session.state_files import (
    MODELS,
    save_past,
    save_prompt,
    saved_past,
    saved_prompt,
    set_aside,
)
from llmscope.tui.session.undo_history import BYTES, CHANGES, TextChange, UndoHistory
from llmscope.tui.state.document import PromptDocument, end_of
from llmscope.tui.user_state import UserState
from tests.tui.conftest import Open

PIECES = st.text(st.sampled_from("ab \n\r\t漢🙂\u0301\x1b\u2028\ud800"), max_size=4)
EDITS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), PIECES, st.booleans()))


class Editor:
    """As much of a text area as an edit needs, without a screen."""

    def __init__(self, text: str, past: UndoHistory | None = None) -> None:
        self.document = PromptDocument(text)
        self.selection = Selection.cursor(self.document.end)
        self.history = EditHistory(CHANGES, 1e9, 100)
        (past or UndoHistory()).put_into(self.history)

    def put(self, begin: int, length: int, text: str) -> None:
        """Replace so many characters from a place on."""
        old = self.document.text
        begin = min(begin, len(old))
        start = end_of((0, 0), old[:begin])
        edit = Edit(text, start, end_of(start, old[begin : begin + length]), False)
        edit.do(self)  # type: ignore[arg-type]
        self.history.record(edit)

    def undo(self) -> str:
        for edit in reversed(self.history._pop_undo() or []):
            edit.undo(self)  # type: ignore[arg-type]
        return self.document.text

    def redo(self) -> str:
        for edit in self.history._pop_redo() or []:
            edit.do(self, record_selection=False)  # type: ignore[arg-type]
        return self.document.text


def edited(edits: list[tuple[int, int, str, bool]]) -> Editor:
    editor = Editor("once upon")
    for begin, length, text, pause in edits:
        editor.put(begin, length, text)
        if pause:
            editor.history.checkpoint()
    return editor


@given(EDITS, st.integers(0, 5))
def test_a_past_comes_back_as_it_was(edits: Any, undone: int) -> None:
    editor = edited(edits)
    for _ in range(undone):
        editor.undo()
    text = editor.document.text
    record = json.loads(json.dumps(UndoHistory.of(editor.history).to_record(text)))
    past = UndoHistory.from_record(record, text)
    assert past == UndoHistory.of(editor.history)
    again = Editor(text, past)
    for step in ("undo", "redo"):
        for _ in range(len(edits) + 1):
            assert getattr(again, step)() == getattr(editor, step)()


@given(EDITS)
def test_all_steps_back_are_where_it_began(edits: Any) -> None:
    editor = edited(edits)
    text = editor.document.text
    again = Editor(
        text, UndoHistory.from_record(UndoHistory.of(editor.history).to_record(text), text)
    )
    for _ in edits:
        again.undo()
    assert again.document.text == "once upon"
    for _ in edits:
        again.redo()
    assert again.document.text == text


def test_letters_of_one_step_are_one_change() -> None:
    editor = Editor("")
    for place, letter in enumerate("the cat"):
        editor.put(place, 0, letter)
    assert UndoHistory.of(editor.history).undo == ((TextChange(0, 0, "", "the cat"),),)
    for place in (6, 5, 4):
        editor.put(place, 1, "")
    editor.history.checkpoint()
    for _ in range(3):
        editor.put(0, 1, "")
    assert UndoHistory.of(editor.history).undo[1:] == (
        (TextChange(0, 4, "cat", ""),),
        (TextChange(0, 0, "the", ""),),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=3), inside),
)
GOOD = {"schema": 1, "text": "ab", "undo": [[[0, 1, "", "b"]]], "redo": [[[0, 2, "", "c"]]]}


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON)))
def test_any_record_is_dropped_or_leads_back_to_the_text(found: dict[str, Any]) -> None:
    past = UndoHistory.from_record({**GOOD, **found}, "ab")
    editor = Editor("ab", past)
    for there, back, steps in (("undo", "redo", past.undo), ("redo", "undo", past.redo)):
        for _ in steps:
            getattr(editor, there)()
        for _ in steps:
            getattr(editor, back)()
        assert editor.document.text == "ab"


@pytest.mark.parametrize(
    "other",
    [
        {"schema": 0},
        {"schema": "1"},
        {"text": "abc"},
        {"undo": [[[0, 1, "", "x"]]]},
        {"undo": [[[0, 3, "", ""]]]},
        {"undo": [[[-1, 1, "", "b"]]]},
        {"undo": [[[7, 0, "", ""]]]},
        {"undo": [[[0, -1, "", "b"]]]},
        {"undo": [[[0, True, "", "b"]]]},
        {"undo": [[[0, 1, "", "b", 1]]]},
        {"undo": [["abcd"]]},
        {"undo": {"a": 1}},
        {"redo": [[[0, 2, "c", "d"]]]},
        {"redo": [[[0, 2, "", "c"]]] * (CHANGES + 1)},
    ],
)
def test_what_does_not_lead_to_the_text_is_dropped(other: dict[str, Any]) -> None:
    assert UndoHistory.from_record(GOOD, "ab") != UndoHistory()
    assert UndoHistory.from_record({**GOOD, **other}, "ab") == UndoHistory()
    for key in GOOD:
        assert (
            UndoHistory.from_record({k: v for k, v in GOOD.items() if k != key}, "ab")
            == UndoHistory()
        )


def test_so_many_edits_are_kept_and_the_newest_of_them() -> None:
    steps = tuple((TextChange(0, 0, "", str(number)),) for number in range(CHANGES + 50))
    kept = UndoHistory(steps, steps).to_record("")
    assert kept["undo"] == list(steps[50:])
    assert kept["redo"] == []
    long = "漢" * (BYTES // 12)
    large = tuple((TextChange(0, 0, "", f"{long}{number}"),) for number in range(9))
    kept = UndoHistory(large, steps[:3]).to_record("")
    assert kept["undo"] == list(large[-3:])
    assert len(json.dumps(kept["undo"], ensure_ascii=False).encode()) <= BYTES


def test_a_long_prompt_is_kept_without_a_walk_through_its_letters(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    editor = Editor("wörd 漢字 🙂\n" * 8000)
    text = editor.document.text
    assert len(text.encode()) > 100_000
    for place in range(CHANGES):
        editor.put(place * 300, 1, "xy")
    edits = UndoHistory.of(editor.history)
    with cProfile.Profile() as profile:
        save_past("m", edits.to_record(editor.document.text))
        past = UndoHistory.from_record(saved_past("m"), editor.document.text)
    assert sum(entry.callcount for entry in profile.getstats()) < len(text)
    assert past == edits
    assert len(past.undo) == CHANGES


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"model": "m"}'])
def test_a_broken_file_is_no_past(tmp_path: Path, monkeypatch: Any, content: bytes) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    save_past("m", GOOD)
    assert UndoHistory.from_record(saved_past("m"), "ab") != UndoHistory()
    assert saved_past("other") == {}
    (file,) = (tmp_path / "edits").iterdir()
    file.write_bytes(content)
    assert UndoHistory.from_record(saved_past("m"), "ab") == UndoHistory()
    file.write_text(json.dumps({**GOOD, "model": "other"}))
    assert saved_past("m") == {}


def test_a_past_of_another_schema_is_set_aside_and_nothing_is_written_over_it(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    save_past("m", GOOD)
    save_prompt("m", "ab")
    assert set_aside("m") == ""
    for times in (1, 2):
        (file,) = (tmp_path / "edits").glob("*.json")
        file.write_text(json.dumps({**GOOD, "model": "m", "schema": 99}))
        notice = set_aside("m")
        assert "set aside" in notice
        assert "\n" not in notice
        assert len(list((tmp_path / "edits").glob("*.bad*"))) == times
        save_past("m", GOOD)
    assert saved_prompt("m") == "ab"


def test_the_edits_of_so_many_models_are_kept(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    for number in range(MODELS + 5):
        save_past(f"m{number}", GOOD)
    assert len(list((tmp_path / "edits").iterdir())) == MODELS
    assert saved_past(f"m{MODELS + 4}") != {}


def test_a_prompt_that_was_given_is_one_step_from_the_saved_one() -> None:
    past = UndoHistory.from_record(GOOD, "ab").leading_to("ab", "漢\n字")
    again = Editor("漢\n字", past)
    assert [again.undo(), again.undo(), again.undo()] == ["ab", "a", "a"]
    assert [again.redo(), again.redo()] == ["ab", "漢\n字"]
    assert UndoHistory().leading_to("", "an example") == UndoHistory()
    assert UndoHistory().leading_to("same", "same") == UndoHistory()


async def test_undo_and_redo_go_on_where_the_session_before_ended(opened: Open) -> None:
    async with opened(prompt="") as session:
        await session.press(*"the", "space", *"cat", "left", "right", "backspace", "x")
        editor = session.app.editor
        texts = [editor.text]
        while editor.history.undo_stack:
            await session.press("ctrl+z")
            texts.append(editor.text)
        await session.press("ctrl+y")
        record = UndoHistory.of(editor.history).to_record(editor.text)
        text = editor.text
    assert texts[0] == "the cax"
    assert texts[-1] == ""
    past = UndoHistory.from_record(record, text)
    async with opened(prompt=text, user=UserState(past=past)) as session:
        for wanted in (*texts[-3::-1], texts[0]):
            await session.press("ctrl+y")
            assert session.app.editor.text == session.app.text == wanted
        for wanted in texts[1:]:
            await session.press("ctrl+z")
            assert session.app.editor.text == session.app.text == wanted
        assert session.app.editor.cursor_location == (0, 0)
        await session.press(*"new")
        assert not session.app.editor.history.redo_stack


def test_the_cursor_goes_where_it_would_have_stood() -> None:
    history = EditHistory(CHANGES, 1.0, 100)
    UndoHistory(((TextChange(0, 1, "b\nc", "xy"),),)).put_into(history)
    ((edit,),) = history.undo_stack
    assert edit._original_selection == Selection.cursor((1, 1))
    assert edit._edit_result is not None
    assert edit._edit_result.end_location == (0, 3)
