"""A text pasted into the figures is offered as a prompt; its letters are no commands."""

from __future__ import annotations

import pytest
from textual import events

from tests.tui.conftest import PROMPT, Open, Session

PASTED = "Mary had a little lamb\nx\x1b[31m"


async def paste(session: Session, text: str) -> None:
    session.app.post_message(events.Paste(text))
    await session.settle()


@pytest.mark.parametrize("keys", [("escape",), ("escape", "2"), ("escape", "6", "tab")])
async def test_enter_makes_it_the_prompt_and_undo_brings_the_old_one_back(
    opened: Open, keys: tuple[str, ...]
) -> None:
    async with opened() as session:
        await session.press(*keys)
        state = session.app.state
        await paste(session, PASTED)
        assert session.app.text == PROMPT
        assert session.app.state == state
        shown = session.screen_text()
        assert "Mary had a little lamb" in shown
        assert "enter: make it the prompt" in shown
        assert "\x1b" not in shown
        await session.press("enter")
        assert session.app.text == session.app.editor.text == PASTED
        assert session.app.grid.pane.has_focus
        await session.press("ctrl+z")
        assert session.app.text == PROMPT


async def test_any_other_key_drops_it(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape")
        await paste(session, PASTED)
        await session.press("x")
        assert (session.app.text, session.app.state.edits) == (PROMPT, ())
        assert len(session.app.screen_stack) == 1
        await paste(session, " \n")
        assert len(session.app.screen_stack) == 1


async def test_in_the_prompt_it_is_text(opened: Open) -> None:
    async with opened() as session:
        await paste(session, " now")
        assert session.app.text == f"{PROMPT} now"
        assert len(session.app.screen_stack) == 1
