"""The palette by keys alone: every action is found by its title, and runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from textual.command import CommandList
from textual.widgets import Input

from llmscope.tui import palette
from llmscope.tui.actions import ACTIONS
from llmscope.tui.desk import Desk
from llmscope.tui.palette import Palette, commands
from tests.tui.conftest import Open, Session


async def choose(session: Session, title: str) -> None:
    """Open the palette, write a title, and take the first that it offers."""
    await session.press("ctrl+p")
    found = session.app.screen
    assert isinstance(found, Palette)
    found.query_one(Input).value = title
    options = found.query_one(CommandList)
    async with asyncio.timeout(10):
        while not options.option_count or title not in str(options.get_option_at_index(0).prompt):
            await asyncio.sleep(0.01)
    await session.press("enter")
    await session.settle()


async def test_the_palette_finds_and_runs_every_action(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def noting(name: str) -> object:
        def run(desk: Desk) -> None:
            ran.append(name)

        return run

    noted = tuple(replace(action, run=noting(action.name)) for action in ACTIONS)  # type: ignore[arg-type]
    monkeypatch.setattr(palette, "ACTIONS", noted)
    offered = list(commands())
    async with opened(80, 24) as session:
        for action in offered:
            await choose(session, action.full_title)
            assert ran[-1:] == [action.name]
            assert len(session.app.screen_stack) == 1
    assert len(ran) == len(offered)


async def test_what_lies_over_the_screen_has_its_keys_to_itself(opened: Open) -> None:
    async with opened() as session:
        await session.press("f1", "f2")
        assert [type(screen).__name__ for screen in session.app.screen_stack][1:] == ["HelpScreen"]
        await session.press("f1")
        assert len(session.app.screen_stack) == 1
        await session.press("f2", "ctrl+p")
        assert len(session.app.screen_stack) == 1


@pytest.mark.parametrize("key", ["pageup", "pagedown"])
async def test_a_palette_without_room_takes_page_keys(opened: Open, key: str) -> None:
    async with opened(1, 1) as session:
        await session.press("ctrl+p")
        await session.pilot.pause(0.3)
        await session.press(key)
        assert isinstance(session.app.screen, Palette)
        await session.press("escape", "escape")
        assert len(session.app.screen_stack) == 1
