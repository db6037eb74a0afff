"""Widgets and terminals with hardly any room: all draw, at widths and heights of 0 and 1."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.containers import Container
from textual.geometry import Region, Size
from textual.screen import Screen
from textual.widget import Widget

import llmscope.tui
from llmscope.engine.events import LoadFailed, Loading
from llmscope.tui.actions.registry import ACTIONS, BY_NAME
from llmscope.tui.state.workspaces import PANES, WORKSPACES
from llmscope.tui.user_state import UserState
from tests.thinned import thinned
from tests.tui.conftest import Open, Session

SIZES = [Size(width, height) for width in (0, 1, 2, 9) for height in (0, 1, 3)]
TERMINALS = [(1, 1), (2, 2), (1, 40), (2, 40), (200, 1), (200, 2), (20, 3), (0, 0), (3, 200)]
SHARES = [((200, 1), 0, 3), ((2, 40), 1, 3)]
"""Terminals that share the actions by default, every third one; on one of 1 cell all are done."""
LEAVING = ("quit", "quit-anywhere", "stop", "external-editor", "ask-chat")


def widget_classes() -> set[type[Widget]]:
    """All classes of widgets of the screen of a model."""
    for module in pkgutil.walk_packages(llmscope.tui.__path__, "llmscope.tui."):
        importlib.import_module(module.name)
    others = "llmscope.tui.modes."  # a snapshot's, a training's and a report's screen
    kinds: list[type[Widget]] = [Widget]
    for kind in kinds:
        kinds += kind.__subclasses__()
    modules = {kind: kind.__module__ for kind in kinds}
    return {
        kind
        for kind, module in modules.items()
        if module.startswith("llmscope.tui.") and not module.startswith(others)
    }


def draw_at(widget: Widget, size: Size, patch: pytest.MonkeyPatch) -> None:
    """Draw a widget as if it had a size, every line of it."""
    for name in ("size", "content_size"):
        patch.setattr(type(widget), name, property(lambda _: size), raising=False)
    patch.setattr(type(widget), "content_region", property(lambda _: Region(0, 0, *size)))
    if hasattr(widget, "_repaint"):
        widget._drawn = ()
        widget._repaint()
    widget.render()
    for y in range(size.height):
        widget.render_line(y)


def on_screens(session: Session) -> Iterator[Widget]:
    for screen in session.app.screen_stack:
        yield from (node for node in screen.walk_children(Widget) if not node.is_container)


def draw_new(session: Session, seen: set[type], *, again: bool = False) -> None:
    """Draw the widgets of kinds that were not drawn yet; with `again`, all widgets."""
    for widget in list(on_screens(session)):
        if type(widget) in seen and not again:
            continue
        seen.add(type(widget))
        for size in SIZES:
            with pytest.MonkeyPatch.context() as patch:
                draw_at(widget, size, patch)


@pytest.mark.parametrize("loaded", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_every_widget_draws_without_room(
    opened: Open, loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    seen: set[type] = set()
    user = UserState(newcomer=True)
    async with opened(auto=loaded, user=user) as session:
        app = session.app
        draw_new(session, seen)
        for key in PANES if loaded else ():
            if any(key in workspace.panes for workspace in WORKSPACES):
                app.grid.enter(key)
                await session.settle()
                draw_new(session, seen)
        await session.pilot.resize_terminal(1, 1)
        for action in ACTIONS:
            if action.name in LEAVING:
                continue
            action.run(app)
            await session.settle()
            draw_new(session, seen)
            while len(app.screen_stack) > 1:
                app.screen.dismiss(None)
                await session.settle()
        if not loaded:
            app.placeholder.progress(Loading("reading", 1, 3))
            draw_new(session, seen, again=True)
            app.fail(LoadFailed("there are no weights", "other weights"))
            draw_new(session, seen, again=True)
    if loaded:
        drawn = {kind for kind in widget_classes() if not kind.__subclasses__()}
        drawn = {kind for kind in drawn if not issubclass(kind, (Screen, Container))}
        assert sorted(kind.__name__ for kind in drawn - seen) == []


@pytest.mark.parametrize(
    ("size", "first", "step"),
    thinned([*SHARES, *((size, 0, 1) for size in TERMINALS)], lambda case: case in SHARES),
    ids=str,
)
async def test_the_screen_is_drawn_on_a_tiny_terminal(
    opened: Open,
    size: tuple[int, int],
    first: int,
    step: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    async with opened(*size) as session:
        app = session.app
        for workspace in app.grid.workspaces:
            app.grid.open(workspace)
            await session.settle()
        for action in ACTIONS[first::step]:
            if action.name not in LEAVING:
                action.run(app)
                await session.settle()
                while len(app.screen_stack) > 1:
                    app.screen.dismiss(None)
                    await session.settle()
        await session.pilot.resize_terminal(120, 40)
        await session.settle()
        assert app._exception is None
        assert app.is_running
        assert "layer" in session.screen_text() or not app.text


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_terminal_may_change_between_tiny_sizes_at_any_time(
    opened: Open, step: int
) -> None:
    async with opened() as session:
        for at, action in enumerate(("palette", "help", "tour", "models", "jump", "messages")):
            for size in (*TERMINALS, (120, 40))[at % step :: step]:
                await session.pilot.resize_terminal(*size)
                BY_NAME[action].run(session.app)
                await session.pilot.resize_terminal(*TERMINALS[0])
                await session.settle()
                while len(session.app.screen_stack) > 1:
                    session.app.screen.dismiss(None)
                    await session.settle()
        await session.pilot.resize_terminal(120, 40)
        await session.settle()
        assert "Map" in session.screen_text()
