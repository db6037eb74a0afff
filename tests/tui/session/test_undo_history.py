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

from llmscope.tui.session.codec import encode
from llmscope.tui.session.state_file import STATE, State, open_state
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.session.stored_prompts import MODELS, TOTAL, UNDO, keep, past_of
from llmscope.tui.session.undo_history import BYTES, CHANGES, TextChange, UndoHistory
from llmscope.tui.state.document import PromptDocument, end_of
from llmscope.tui.user_state import UserState
from tests.stored import part_in, put_into, save_prompt, saved_past, saved_prompt
from tests.tui.conftest import Open

PIECES = st.text(st.sampled_from("ab \n\r\t漢🙂\u0301\x1b\u2028\ud800\udc00"), max_size=4)
EDITS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), PIECES, st.booleans()))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


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


def kept(past: UndoHistory, text: str) -> UndoHistory:
    """What the state holds of a history that leads to a text."""
    state = State()
    keep(state, "m", text, past)
    return past_of(State(state.parts), "m")


def past_in(found: Any, text: str) -> UndoHistory:
    """The history of a text in a record that need not be valid."""
    state = State({"prompt m": encode(text), "undo m": json.dumps(found).encode()})
    return past_of(state, "m")


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
    past = kept(UndoHistory.of(editor.history), text)
    assert past == UndoHistory.of(editor.history)
    again = Editor(text, past)
    for step in ("undo", "redo"):
        for _ in range(len(edits) + 1):
            assert getattr(again, step)() == getattr(editor, step)()


@pytest.mark.slow
@given(EDITS)
def test_all_steps_back_are_where_it_began(edits: Any) -> None:
    editor = edited(edits)
    text = editor.document.text
    again = Editor(text, kept(UndoHistory.of(editor.history), text))
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
GOOD = {"undo": [[[0, 1, "", "b"]]], "redo": [[[0, 2, "", "c"]]]}
PAST = UndoHistory(((TextChange(0, 1, "", "b"),),), ((TextChange(0, 2, "", "c"),),))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON)))
def test_any_record_is_dropped_or_leads_back_to_the_text(found: dict[str, Any]) -> None:
    past = past_in({**GOOD, **found}, "ab")
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
    assert past_in(GOOD, "ab") == PAST
    assert past_in({**GOOD, **other}, "ab") == UndoHistory()
    assert past_in(GOOD, "xy") == UndoHistory()


def test_another_text_drops_the_past_and_the_same_text_keeps_it(state: Path) -> None:
    save_prompt("m", "ab", PAST)
    save_prompt("m", "ab")
    assert saved_past("m") == PAST
    save_prompt("m", "abc")
    assert saved_past("m") == UndoHistory()
    assert part_in(state, "undo m") is None


def test_so_many_edits_are_kept_and_the_newest_of_them() -> None:
    steps = tuple((TextChange(0, 0, "", str(number)),) for number in range(CHANGES + 50))
    assert UndoHistory(steps, steps).nearest() == UndoHistory(steps[50:], ())
    long = "漢" * (BYTES // 12)
    large = tuple((TextChange(0, 0, "", f"{long}{number}"),) for number in range(9))
    nearest = UndoHistory(large, steps[:3]).nearest()
    assert nearest.undo == large[-3:]
    assert len(encode(nearest)) <= BYTES + 100


def test_a_long_prompt_is_kept_without_a_walk_through_its_letters(state: Path) -> None:
    editor = Editor("wörd 漢字 🙂\n" * 8000)
    text = editor.document.text
    assert len(text.encode()) > 100_000
    for place in range(CHANGES):
        editor.put(place * 300, 1, "xy")
    edits = UndoHistory.of(editor.history)
    with cProfile.Profile() as profile:
        save_prompt("m", editor.document.text, edits)
        past = saved_past("m")
    assert sum(entry.callcount for entry in profile.getstats()) < len(text)
    assert past == edits
    assert len(past.undo) == CHANGES


@pytest.mark.parametrize("found", [None, [], "x", 3, {"undo": 3}, {"redo": [{}]}])
def test_a_broken_past_is_none_and_costs_nothing_else(state: Path, found: Any) -> None:
    put_into(state, prompts={"m": "ab"}, **{"undo m": found})
    assert saved_past("m") == saved_past("other") == UndoHistory()
    assert saved_prompt("m") == "ab"
    save_prompt("m", "ab", PAST)
    assert saved_past("m") == PAST


def test_a_state_of_another_schema_is_set_aside_and_nothing_is_written_over_it(
    state: Path,
) -> None:
    save_prompt("m", "ab", PAST)
    open_state()
    assert flaw() == ""
    for names in ([f"{STATE}.bad"], [f"{STATE}.bad", f"{STATE}.bad2"]):
        put_into(state, schema=99)
        open_state()
        notice = flaw()
        assert "set aside" in notice
        assert "\n" not in notice
        assert sorted(path.name for path in state.glob("*.bad*")) == names
        save_prompt("m", "ab", PAST)
    assert saved_prompt("m") == "ab"


def test_the_edits_of_so_many_models_are_kept(state: Path) -> None:
    found = State()
    for number in (*range(MODELS + 5), 5):
        keep(found, f"m{number}", "ab", PAST)
    assert [past_of(found, f"m{number}") == PAST for number in range(MODELS + 5)] == (
        [False] * 5 + [True] * MODELS
    )
    keep(found, "more", "ab", PAST)
    assert (past_of(found, "m5"), past_of(found, "m6")) == (PAST, UndoHistory())
    large = UndoHistory(tuple((TextChange(0, 0, "x" * 1000, ""),) for _ in range(CHANGES)))
    for number in range(30):
        keep(found, f"large{number}", "ab", large)
    sizes = [len(data) for name, data in found.parts.items() if name.startswith(UNDO)]
    assert 0.9 * TOTAL < sum(sizes) <= TOTAL
    assert past_of(found, "large29") == large
    assert past_of(found, "large0") == past_of(found, "m5") == UndoHistory()
    assert len(found.parts) - len(sizes) == MODELS + 36, "every prompt is there"


def test_a_prompt_that_was_given_is_one_step_from_the_saved_one() -> None:
    past = PAST.leading_to("ab", "漢\n字")
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
        past, text = UndoHistory.of(editor.history), editor.text
    assert texts[0] == "the cax"
    assert texts[-1] == ""
    past = kept(past, text)
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
