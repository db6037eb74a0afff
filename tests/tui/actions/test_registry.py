from __future__ import annotations

import inspect

import pytest

from llmscope.tui.actions.menus import MENU_BY_NAME
from llmscope.tui.actions.registry import ACTIONS, BY_NAME, EVERY
from llmscope.tui.actions.types import binds_at
from llmscope.tui.dialogs.command_palette import commands
from llmscope.tui.dialogs.help import HelpScreen
from llmscope.tui.state.workspaces import WORKSPACES
from llmscope.tui.widgets.footer import FOOTER
from tests.tui.conftest import Open, Session

KEYED = [action for action in ACTIONS if action.keys or action.menu]


def state(session: Session) -> tuple[object, ...]:
    app = session.app
    return (
        app.state,
        app.focused,
        app.grid.on_screen,
        dict(app.grid.areas),
        len(app.screen_stack),
        app.status.display,
        app.clipboard,
        app.is_running,
        len(app._notifications),
        session.engine.stops,
    )


async def prepare(session: Session, name: str) -> None:
    """Where the action has something to do."""
    if BY_NAME[name].where == "prompt":
        return
    await session.press("escape")
    session.app.grid.kept_tabs |= {one.name for one in WORKSPACES}
    if name in ("workspace-overview", "tab-1"):
        await session.press("0", "c")
    elif name.startswith(("workspace-", "tab-")):
        await session.press("1")
    if name == "pane-sizes":
        await session.press("tab", "p", "+")
    session.engine.auto = name != "cancel"
    session.app.look_at(session.app.state.move_to(layer=3, head=3, position=2))
    if name == "cancel":
        session.app.requests._is_overdue()
    await session.settle()


@pytest.mark.few(7)
@pytest.mark.parametrize("area", sorted({action.area for action in KEYED}))
async def test_every_key_does_its_action(opened: Open, area: str) -> None:
    keys = [
        (action.name, key.split())
        for action in KEYED
        if action.area == area
        for key in (
            *action.keys,
            *([f"{MENU_BY_NAME[action.menu].key} {action.letter}"] if action.menu else ()),
        )
    ]
    while keys:
        async with opened() as session:
            while keys and session.app.is_running and len(session.app.screen_stack) == 1:
                name, key = keys.pop(0)
                await prepare(session, name)
                before = state(session)
                await session.press(*key)
                assert state(session) != before, (name, key)


async def test_what_an_action_performs_is_there_and_takes_its_arguments(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        for action in EVERY:
            function, arguments = action.resolved(app)
            inspect.signature(function).bind(app, *arguments)


def test_every_action_is_in_the_palette() -> None:
    offered = {command.title for command in commands(ACTIONS)}
    assert {action.title for action in ACTIONS} <= offered


async def test_the_palette_runs_an_action(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+p", *"pane: MLP", "enter")
        await session.settle()
        assert session.app.focused is session.app.grid.panes["mlp"]


async def test_a_pane_without_room_is_entered_maximized(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("pane-tokens")
        await session.settle()
        assert session.app.grid.on_screen == ("tokens",)
        assert session.wanted() == ["tokens"]


def test_no_key_means_two_things_in_one_place() -> None:
    for place in ("prompt", "figures"):
        keys = [
            key
            for action in ACTIONS
            if action.keys
            for key in action.keys
            if binds_at(action, key) in (place, "anywhere")
        ]
        assert len(keys) == len(set(keys))


def test_keys_that_terminals_and_multiplexers_need_are_left_alone() -> None:
    taken = {key for action in KEYED for key in action.keys}
    # tmux and screen (a, b), flow control and job control of shells (s), what a terminal sends
    # for backspace, return and form feed (h, j, m, k, l), and what a browser keeps for itself.
    eaten = {f"ctrl+{letter}" for letter in "abshjklmwtn"} | {"f5", "f11", "f12"}
    eaten |= {f"ctrl+shift+{letter}" for letter in "wtncvi"}
    eaten |= {key for key in taken if key.startswith(("alt+", "super+", "meta+"))}
    assert not taken & eaten


def test_the_footer_names_what_works_there() -> None:
    for place, hints in FOOTER.items():
        wheres = {BY_NAME[hint.action].where for hint in hints}
        assert wheres <= {"prompt" if place.startswith("prompt") else "figures", "anywhere"}


async def test_letters_are_text_in_the_prompt(opened: Open) -> None:
    async with opened(prompt="") as session:
        await session.press(*"qhjkl?e/vm")
        assert session.app.text == "qhjkl?e/vm"
        assert session.app.is_running


@pytest.mark.few(2)
@pytest.mark.parametrize("pane", ["map", "next-token", "attention", "mlp"])
async def test_help_explains_the_pane(opened: Open, pane: str) -> None:
    async with opened() as session:
        session.app.grid.enter(pane)
        await session.settle()
        await session.press("question_mark")
        screen = session.app.screen
        assert isinstance(screen, HelpScreen)
        shown = screen.page().plain
        questions = {
            "map": "When does it know?",
            "next-token": "What comes next?",
            "attention": "Where does this head look?",
            "mlp": "Which neurons fire?",
        }
        assert questions[pane] in shown
        for action in KEYED:
            assert f"  {action.title}" in shown
        await session.press("escape")
        assert session.app.focused is session.app.grid.panes[pane]


async def test_help_in_the_prompt_explains_the_prompt(opened: Open) -> None:
    async with opened() as session:
        await session.press("f1")
        assert isinstance(session.app.screen, HelpScreen)
        assert "The tokens are shown in place" in session.app.screen.page().plain
