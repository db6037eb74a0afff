"""Keys that come in one burst, as over a slow link: each acts after the one before it."""

from __future__ import annotations

import pytest
from textual import events
from textual.keys import _character_to_key

from llmscope.tui.app import LlmscopeApp
from llmscope.tui.features.edits.dialog import EditScreen
from tests.tui.conftest import Open


def burst(app: LlmscopeApp, *keys: str) -> None:
    """Keys at once: names of more than a letter are keys, other texts are typed."""
    for key in keys:
        if key in ("backspace", "delete", "enter", "left", "home", "ctrl+u", "escape"):
            app.post_message(events.Key(key, None))
        else:
            for character in key:
                app.post_message(events.Key(_character_to_key(character), character))


async def test_a_burst_is_written_in_order_in_the_prompt(opened: Open) -> None:
    async with opened() as session:
        app, pilot = session.app, session.pilot
        app.editor.replace_all("")
        await pilot.pause()
        burst(app, "ab", "backspace", "c", "left", "d", "enter", "home", "e", "delete", "f")
        await pilot.pause()
        assert app.text == "ad\nef"


@pytest.mark.parametrize("pause", [True, False])
async def test_a_burst_is_written_in_order_in_a_line(opened: Open, pause: bool) -> None:
    written = "steer 21 token ' Mary' 41"
    async with opened() as session:
        app, pilot = session.app, session.pilot
        await pilot.press("escape", "4")
        await pilot.pause()
        burst(app, "XX")
        if pause:
            await pilot.pause()
            assert isinstance(app.screen, EditScreen)
        burst(app, *["backspace"] * 30, "steer 21 tokeX", "backspace", "n ' Mary' 41", "enter")
        await pilot.pause()
        assert [str(one.edit) for one in app.state.edits] == [written]
        assert len(app.screen_stack) == 1


async def test_a_burst_finds_a_token(opened: Open) -> None:
    async with opened() as session:
        app, pilot = session.app, session.pilot
        await pilot.press("escape")
        await pilot.press("slash")
        await pilot.pause()
        burst(app, "xy", "backspace", "backspace", "ca", "enter")
        await pilot.pause()
        assert app.find.value == "ca"
