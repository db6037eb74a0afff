"""The grammar of the keys: single keys, menus of one subject each, and what their entries say."""

import asyncio
from collections import Counter

import pytest
from textual import events

from llmscope.tui.actions import menus
from llmscope.tui.actions.menus import MENUS, actions_of
from llmscope.tui.actions.registry import ACTIONS, BY_NAME, EVERY
from llmscope.tui.actions.types import binds_at
from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.features.menu_now import NOW
from llmscope.tui.features.views import LETTERS
from llmscope.tui.panes import FigurePane
from llmscope.tui.state.workspaces import FIRST
from tests.tui.conftest import PROMPT, Open, Session

SAME = {
    "help-anywhere": "help",
    "quit-anywhere": "quit",
    "figures": "cancel",
    "onward": "pane-next",
}
"""Actions of the prompt that mean what the same key, or its twin, means in the figures."""
MOST = 45
FIRST_TABS = len(FIRST)


def verbs() -> dict[str, list[str]]:
    """The keys outside of menus by what they mean."""
    found: dict[str, list[str]] = {}
    for action in ACTIONS:
        if action.keys:
            found.setdefault(SAME.get(action.name, action.name), []).extend(action.keys)
    return found


def test_few_keys_are_outside_of_menus() -> None:
    """At the start there are five tabs; a digit more works for each tab that appears."""
    tabs = sum(name.startswith("tab-") for name in verbs())
    count = len(verbs()) - tabs + FIRST_TABS
    print(f"{count} keys outside of menus, {FIRST_TABS} of them tabs; {len(MENUS)} open a menu")
    assert count <= MOST


@pytest.mark.parametrize("place", ["prompt", "figures"])
def test_no_key_has_two_meanings(place: str) -> None:
    keys = Counter(
        key
        for action in ACTIONS
        for key in action.keys
        if binds_at(action, key) in (place, "anywhere")
    )
    assert [key for key, count in keys.items() if count > 1] == []


def test_each_entry_of_a_menu_has_a_letter_of_its_own() -> None:
    for menu in MENUS:
        letters = [action.letter for action in actions_of(menu.name, EVERY)]
        assert letters
        assert len(letters) == len(set(letters)), menu.name
        assert all(len(letter) == 1 for letter in letters)
    # Those of the views are digits and capitals, which no other entry beside them has.
    assert not {action.letter for action in actions_of("view", EVERY)} & set(LETTERS)
    assert {action.menu for action in EVERY if action.menu} == {menu.name for menu in MENUS}
    assert all(bool(action.menu) == bool(action.letter) for action in EVERY)


def test_what_entries_say_is_of_entries() -> None:
    assert {name for name in NOW if not BY_NAME[name].menu} == set()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Menus are drawn as soon as they open."""
    monkeypatch.setattr("llmscope.tui.dialogs.menu.WAIT", 0.0)


async def menu_of(session: Session, key: str) -> MenuScreen:
    await session.press(key)
    assert isinstance(session.app.screen, MenuScreen)
    return session.app.screen


@pytest.mark.few(3)
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("menu", MENUS, ids=lambda menu: menu.name)
async def test_a_menu_lists_its_entries_and_any_other_key_leaves_it(
    opened: Open, menu: menus.Menu
) -> None:
    async with opened(120, 40) as session:
        await session.press("escape")
        before = session.app.state
        screen = await menu_of(session, menu.key)
        shown = session.screen_text()
        assert screen.heading.lower().startswith(menu.title.lower())
        offered = [
            action
            for action in actions_of(menu.name, ACTIONS)
            if session.app.mode.offers(action.name)
        ]
        for action in offered:
            assert f"{action.letter}  {action.title}" in shown
        await session.press("f12")
        assert len(session.app.screen_stack) == 1
        assert session.app.state == before


@pytest.mark.usefixtures("at_once")
async def test_an_entry_says_what_it_would_do_now_or_why_it_does_nothing(opened: Open) -> None:
    async with opened(120, 40) as session:
        await session.press("escape", "b")
        row = next(r for r in session.screen_text().split("\n") if "keep this prompt as B" in r)
        assert f"B is '{PROMPT}'" in row
        await session.press("k", "b")
        assert "removes B" in session.screen_text()
        await session.press("escape", "w")
        assert "nothing was generated here" in session.screen_text()
        await session.press("w", "w")
        assert "nothing was generated here" not in session.screen_text()


def burst(session: Session, *keys: str) -> None:
    """Keys that arrive in one packet."""
    for key in keys:
        session.app.post_message(events.Key(key, key if len(key) == 1 else None))


async def test_keys_of_one_packet_act_in_their_order(opened: Open) -> None:
    async with opened(120, 40) as session:
        await session.press("escape")
        burst(session, "up", "b", "k", "up", "d", "2", "left", "c", "q", "x", "t", "t")
        await session.settle()
        state = session.app.state
        assert state.versus_prompt == PROMPT
        assert state.view == 1
        assert state.focus.layer == state.info.layers - 3
        assert state.focus.position == len(state.tokens) - 2
        assert len(state.edits) == 1, "q leaves the menu and does no more"
        assert state.target_pinned
        assert len(session.app.screen_stack) == 1


async def test_who_knows_the_letter_never_sees_the_menu(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.dialogs.menu.WAIT", 3600)  # longer than any machine takes
    async with opened(120, 40) as session:
        await session.press("escape")
        await menu_of(session, "g")
        assert "go to the first token" not in session.screen_text()
        await session.press("escape")
        monkeypatch.setattr("llmscope.tui.dialogs.menu.WAIT", 0.2)
        screen = await menu_of(session, "g")
        while not screen.query_one("#menu").display:
            await asyncio.sleep(0.01)
        await session.settle()
        assert "go to the first token" in session.screen_text()


@pytest.mark.few(2)
@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("size", [(80, 24), (60, 12), (40, 10), (20, 5)])
async def test_all_entries_fit_a_small_screen(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        session.app.grid.enter("map")
        await session.settle()
        for menu in MENUS:
            screen = await menu_of(session, menu.key)
            box = screen.query_one("#menu")
            assert box.region.height <= size[1]
            rows = [row for row in screen.query("Static") if row.id]
            if size[1] >= 12:
                assert all(row.region.height == 1 for row in rows), menu.name
                assert all(box.region.contains_region(row.region) for row in rows), menu.name
            await session.press("f12")


def test_a_pane_has_no_more_views_than_there_are_letters() -> None:
    panes = [FigurePane, *FigurePane.__subclasses__()]
    assert all(len(pane.views) <= len(LETTERS) for pane in panes)
