"""The palette by keys alone: every action is found by its title, and runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.command import Command, CommandList
from textual.events import Key
from textual.keys import _character_to_key

from llmscope.tui.actions.keymap import Keymap, keymap_from
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.actions.types import Action
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.dialogs.command_palette import KEYS, CommandPaletteScreen, commands
from llmscope.tui.theme_switcher import all_names
from llmscope.tui.user_state import UserState
from tests.tui.actions.test_registry import state
from tests.tui.conftest import Open, Session


def first(options: CommandList) -> str:
    """The title that the palette lists first."""
    option = options.get_option_at_index(0)
    return option.hit.text or "" if isinstance(option, Command) else ""


async def choose(session: Session, title: str) -> None:
    """Open the palette, type a title, and take the first that it offers: keys, nothing else."""
    await session.press("ctrl+p")
    found = session.app.screen
    assert isinstance(found, CommandPaletteScreen)
    for character in title:
        # Not through the pilot, which waits after each.
        session.app.post_message(Key(_character_to_key(character), character))
    options = found.query_one(CommandList)
    async with asyncio.timeout(10):
        while not options.option_count or first(options) != title:
            await asyncio.sleep(0.01)
    await session.press("enter")
    await session.settle()


@pytest.mark.slow
async def test_the_palette_finds_and_runs_every_action(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def noting(name: str) -> object:
        def run(host: LlmscopeApp) -> None:
            ran.append(name)

        return run

    noted = tuple(replace(action, run=noting(action.name)) for action in ACTIONS)  # type: ignore[arg-type]
    monkeypatch.setattr(Keymap, "actions", property(lambda _: noted))
    offered = commands(ACTIONS)
    async with opened(80, 24) as session:
        for action in offered:
            await choose(session, action.full_title)
            assert ran[-1:] == [action.name]
            assert len(session.app.screen_stack) == 1
    assert len(ran) == len(offered)


KEYLESS = [action for action in ACTIONS if not action.keys]


@pytest.mark.slow
@pytest.mark.parametrize("action", KEYLESS, ids=lambda action: action.name)
async def test_what_has_no_key_of_its_own_is_done_by_the_keys_of_the_palette(
    opened: Open, action: Action
) -> None:
    async with opened() as session:
        await session.press("escape")
        if action.name == "pane-map":
            await session.press("tab")
        before = (*state(session), session.app.look.theme)
        await choose(session, action.full_title)
        assert (*state(session), session.app.look.theme) != before


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
        assert isinstance(session.app.screen, CommandPaletteScreen)
        await session.press("escape", "escape")
        assert len(session.app.screen_stack) == 1


async def listed(session: Session) -> list[str]:
    """What the palette lists before anything is typed: keys and title."""
    await session.press("ctrl+p")
    options = session.app.screen.query_one(CommandList)
    wanted = len(commands(ACTIONS)) + len(all_names())
    async with asyncio.timeout(10):
        while options.option_count < wanted:
            await asyncio.sleep(0.01)
    return [str(options.get_option_at_index(number).prompt) for number in range(wanted)]


async def test_commands_come_area_by_area_and_themes_last(opened: Open) -> None:
    async with opened(80, 24) as session:
        listing = await listed(session)
        assert listing[0].split("  ")[0] == "← h"
        assert "shift+tab pane: go to the one before" in listing
        assert max(map(cell_len, listing)) <= 66
        assert not [row for row in listing if "\n" in row]
        rows = [row[KEYS + 1 :] for row in listing]
        assert rows[0] == "cursor: one token back; on a grid, a head"
        areas = [row.split(":")[0] for row in rows]
        runs = [area for area, before in zip(areas, [None, *areas], strict=False) if area != before]
        assert len(runs) == len(set(runs))
        assert set(runs) == {action.area for action in ACTIONS}
        assert runs[-1] == "theme"
        assert rows[-len(all_names()) :] == [f"theme: {name}" for name in all_names()]
        text = session.screen_text()
        assert "theme" not in text
        assert sum(row in text for row in rows) >= 12


async def test_brackets_in_keys_and_names_are_no_markup(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_CONFIG", str(tmp_path))
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path / "state"))
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "[@click=app.quit]x.toml").write_text('inherits = "light"')
    user = UserState(keymap=keymap_from({"keys": {"copy": "[,b,]"}}))
    async with opened(user=user) as session:
        rows = await listed(session)
        assert f"{'':<{KEYS}} theme: [@click=app.quit]x" in rows
        assert next(row for row in rows if "pane: copy" in row).startswith("[ b ]  ")
        await session.press("escape")
        await choose(session, "theme: [@click=app.quit]x")
        assert session.app.look.theme.name == "[@click=app.quit]x"
        assert session.app.is_running
