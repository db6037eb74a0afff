"""Prompts that are kept: which texts are prompts, and what the file holds of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.tui.session import prompt_history
from llmscope.tui.session.history_policy import BRIEF, STAY, HistoryPolicy, replaced
from llmscope.tui.session.prompt_history import BYTES, HISTORY, MOST, PromptRecord, add, read
from llmscope.tui.session.state_folder import LOCK, flaw


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def prompts(*changes: tuple[float, str], end: float | None = None, first: str = "") -> list[str]:
    """What is a prompt of a text that changes at some times."""
    stays = HistoryPolicy(first, 0.0)
    found = [stays.changed(text, when) for when, text in changes]
    found.append(None if end is None else stays.left(end))
    return [text for text in found if text is not None]


def test_steps_of_typing_are_no_prompts() -> None:
    typed = [(0.2 * place, "The capital of"[:place]) for place in range(1, 15)]
    assert prompts(*typed) == []
    assert prompts(*typed, end=3.0) == ["The capital of"]
    deleted = [(3.0 + 0.1 * place, "The capital of"[:-place]) for place in range(1, 14)]
    assert prompts(*typed, *deleted) == []


def test_what_stood_for_a_while_is_one() -> None:
    assert prompts((1.0, "a cat"), (1.0 + STAY, "a rat")) == ["a cat"]
    assert prompts((1.0, "a cat"), (0.9 + STAY, "a rat")) == []
    assert prompts((1.0, " \n"), (9.0, "x")) == [], "a blank text never is"


def test_what_is_only_typed_further_is_none_unless_something_was_done_with_it() -> None:
    assert prompts((1.0, "a cat"), (9.0, "a cat and"), end=20.0) == ["a cat and"]
    stays = HistoryPolicy("a cat", 0.0)
    stays.worked()
    assert stays.changed("a cat and", 0.1) == "a cat"
    assert stays.changed("a cat and a", 0.2) is None, "it was the text before that was worked with"
    stays = HistoryPolicy("an example", 0.0)
    stays.worked()
    assert stays.left(0.1) == "an example"


def test_what_was_replaced_as_a_whole_is_one() -> None:
    assert prompts((1.0, "a cat"), (2.0, "The dog")) == ["a cat"]
    assert prompts((1.0, "a cat"), (2.0, "")) == ["a cat"]
    assert prompts((1.0, "a cat"), (1.0 + BRIEF / 2, "")) == [], "flown past with undo"
    assert prompts((1.0, "a cat"), (2.0, "a rat")) == []


def test_what_was_only_glanced_at_is_none() -> None:
    assert prompts(first="an example", end=1.0) == []
    assert prompts(first="an example", end=STAY) == ["an example"]


@given(st.text("ab", max_size=8), st.text("ab", max_size=8))
def test_replaced_counts_what_went_away(old: str, new: str) -> None:
    # As a slice of the old text that another text stands for: the shortest there is.
    gone = min(
        stop - start
        for start in range(len(old) + 1)
        for stop in range(start, len(old) + 1)
        if len(new) >= start + len(old) - stop
        and new.startswith(old[:start])
        and new.endswith(old[stop:])
    )
    assert replaced(old, new) == (gone > 1 and gone >= len(old) / 2)


def test_the_newest_is_first_and_each_is_there_once_a_model(state: Path) -> None:
    add([PromptRecord("gpt2", "one", 1.0), PromptRecord("gpt2", "two\n\u2028 漢 \ud800", 2.0)])
    add([PromptRecord("other", "one", 3.0), PromptRecord("gpt2", "one", 4.0)])
    assert read() == [
        PromptRecord("gpt2", "one", 4.0),
        PromptRecord("other", "one", 3.0),
        PromptRecord("gpt2", "two\n\u2028 漢 \ud800", 2.0),
    ]
    assert stat.S_IMODE((state / HISTORY).stat().st_mode) == 0o600
    assert flaw() == ""


def test_no_more_than_a_thousand_are_kept(state: Path) -> None:
    for begin in range(0, 3000, 100):
        add([PromptRecord("m", f"prompt {number}", number) for number in range(begin, begin + 100)])
        found = [entry.text for entry in read()]
        assert len(found) <= MOST
        assert found == [f"prompt {begin + 99 - place}" for place in range(len(found))]
    assert len(found) >= MOST // 2
    assert flaw() == ""
    assert sorted(path.name for path in state.iterdir()) == [LOCK, HISTORY]


def test_no_more_than_a_megabyte_is_kept(state: Path) -> None:
    for number in range(30):
        add([PromptRecord("m", f"{number} " + "漢" * 30_000, number)])
        assert (state / HISTORY).stat().st_size <= BYTES
    found = [int(entry.text.split()[0]) for entry in read()]
    assert found == list(range(29, 29 - len(found), -1))
    assert len(found) >= 5
    add([PromptRecord("m", "x" * BYTES, 99)])
    assert read()[0].text.startswith("29 "), "what would take all the room is not kept"


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"3", b'{"model": "m", "text": 3, "time": 1}', b"\xff", b'{"time":']
)
def test_a_line_that_is_none_costs_that_line(state: Path, line: bytes) -> None:
    add([PromptRecord("m", "before", 1.0)])
    with (state / HISTORY).open("ab") as file:
        file.write(line)  # and no end of the line: the disk was full
    add([PromptRecord("m", "after", 2.0)])
    assert [entry.text for entry in read()] == ["after", "before"]


@pytest.mark.parametrize("content", [b"\x00{", b"", b'{"schema": 0}\n', b'{"schema": 2}\n{}\n'])
@pytest.mark.parametrize("shown", [True, False])
def test_another_file_is_set_aside(state: Path, content: bytes, shown: bool) -> None:
    state.mkdir()
    (state / HISTORY).write_bytes(content)
    if shown:
        assert read() == []
    else:
        add([PromptRecord("m", "old", 0.0)])
        (state / HISTORY).unlink()
    notice = f"what an earlier session left cannot be read: set aside as {HISTORY}.bad"
    assert flaw() == notice
    assert (state / f"{HISTORY}.bad").read_bytes() == content
    add([PromptRecord("m", "new", 1.0)])
    assert flaw() == ""
    assert json.loads((state / HISTORY).read_bytes().splitlines()[0]) == {"schema": 1}
    assert read() == [PromptRecord("m", "new", 1.0)]


def test_lines_of_0_1_are_read_and_stay(state: Path) -> None:
    old = (
        '{"schema": 1}\n'
        '{"time": 1764000000, "model": "gpt2", "text": "one"}\n'
        '{"time": 1764000001, "model": "gpt2", "text": "\ud83d 漢\\n \udc80"}\n'
    ).encode("utf-8", "surrogatepass")
    state.mkdir()
    (state / HISTORY).write_bytes(old)
    add([PromptRecord("m", "\ud800\udc00", 1764000002.0)])
    assert (state / HISTORY).read_bytes().startswith(old)
    assert read() == [
        PromptRecord("m", "\ud800\udc00", 1764000002.0),
        PromptRecord("gpt2", "\ud83d 漢\n \udc80", 1764000001.0),
        PromptRecord("gpt2", "one", 1764000000.0),
    ]


def test_a_folder_that_cannot_be_written_costs_the_history_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "file" / "state"))
    prompt_history.add([PromptRecord("m", "x", 1.0)])
    assert prompt_history.read() == []
