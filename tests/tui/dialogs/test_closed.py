"""Dialogs that are closed while they open: keys come faster than screens are mounted."""

from __future__ import annotations

import asyncio
import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from textual.screen import ModalScreen
from textual.widget import Widget

import llmscope.tui
from llmscope.tui.actions.registry import ACTIONS, BY_NAME
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.dialogs.base import Overlay
from llmscope.tui.dialogs.command_palette import CommandPaletteScreen
from llmscope.tui.run import _keep
from llmscope.tui.session.autosave import Autosave
from tests import waiting
from tests.tui.conftest import Open, Session

LEAVING = ("quit", "quit-anywhere", "stop", "external-editor")


async def close_soon(session: Session, name: str, pauses: int) -> bool:
    """Run an action, and close the dialog that it opens after so many turns of the event loop."""
    app = session.app
    action = next(action for action in ACTIONS if action.name == name)
    action.run(app)
    for _ in range(pauses):
        await asyncio.sleep(0)
    opened = len(app.screen_stack) > 1
    while len(app.screen_stack) > 1:
        app.screen.dismiss(None)
        await asyncio.sleep(0)
    return opened


@pytest.mark.slow
@pytest.mark.parametrize("loaded", [True, False])
async def test_every_dialog_may_be_closed_while_it_opens(
    opened: Open, loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names = [action.name for action in ACTIONS if action.name not in LEAVING]
    async with opened(auto=loaded) as session:
        dialogs = set()
        for name in names:
            if await close_soon(session, name, 0):
                dialogs.add(name)
                for pauses in (1, 2, 3, 5, 8):
                    await close_soon(session, name, pauses)
            await session.settle()
            assert session.app._exception is None, name
        assert len(dialogs) >= (10 if loaded else 5)
        assert session.app.is_running


async def test_what_a_thread_found_for_a_closed_dialog_is_not_heard(opened: Open) -> None:
    from llmscope.tui.features.models.model_picker import ModelsFound, PickerScreen

    async with opened() as session:
        picker = PickerScreen(session.app)
        session.app.push_screen(picker)
        picker.dismiss(None)
        await session.settle()
        picker.post_message(ModelsFound([], complete=True))
        await session.settle()
        assert picker.gone
        assert not picker._catalogue.complete


@pytest.mark.few(3)
@pytest.mark.parametrize("width", range(1, 9))
async def test_the_list_of_models_opens_on_a_narrow_terminal(opened: Open, width: int) -> None:
    from llmscope.tui.features.models.model_picker import PickerScreen

    async with opened(width, 40) as session:
        picker = PickerScreen(session.app)
        session.app.push_screen(picker)
        await session.settle()
        while not picker._catalogue.complete:
            await session.settle()
        await session.pilot.resize_terminal(120, 40)
        await session.settle()
        assert "Models" in session.screen_text()


def test_no_dialog_takes_a_widget_for_granted() -> None:
    """A dialog holds its widgets: one that is looked up by its name may not be mounted."""
    folder = Path(llmscope.tui.__file__).parent
    users = [path.name for path in folder.rglob("*.py") if "query_one(" in path.read_text()]
    assert users == []


def test_all_dialogs_are_of_the_kind_that_ends_when_it_is_closed() -> None:
    for module in pkgutil.walk_packages(llmscope.tui.__path__, "llmscope.tui."):
        import_module(module.name)
    kinds = [ModalScreen]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("llmscope.")]
    assert len(ours) > 10
    assert all(issubclass(kind, Overlay) for kind in ours if not inspect.isabstract(kind))


@pytest.mark.few(2)
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8])
async def test_a_call_after_a_redraw_outlives_a_dialog_that_is_closed_before_it(
    opened: Open, turns: int
) -> None:
    """Textual forgets it with the screen that was on top."""
    calls: list[int] = []
    async with opened() as session:
        BY_NAME["palette"].run(session.app)
        session.app.call_after_refresh(calls.append, turns)
        for _ in range(turns):
            await asyncio.sleep(0)
        session.app.screen.dismiss(None)
        await session.settle()
        assert calls == [turns]
        assert not session.app._calls
        session.app.call_after_refresh(calls.append, -1)
        await session.settle()
        assert calls == [turns, -1]


@pytest.mark.few(3)
@pytest.mark.parametrize("turns", [0, 1, 3, 8])
@pytest.mark.parametrize("closes", [True, False])
async def test_a_dialog_opened_during_the_start_does_not_stop_it(
    opened: Open, turns: int, closes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = LlmscopeApp.on_mount

    async def close_dialog(app: LlmscopeApp) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        app.screen.dismiss(None)

    def mount_and_open(app: LlmscopeApp) -> None:
        mount(app)
        BY_NAME["palette"].run(app)
        if closes:
            app.call_later(close_dialog, app)

    monkeypatch.setattr(LlmscopeApp, "on_mount", mount_and_open)
    async with opened() as session:
        assert len(session.app.screen_stack) == 2 - closes
        assert session.app.state.tokens
        assert session.app.grid.children
        if not closes:
            await session.press("q", "u")
            assert isinstance(session.app.screen, CommandPaletteScreen)
            assert session.app.screen._line.value == "qu"
            await session.press("escape")
        assert "Map" in session.screen_text()


async def test_a_closed_dialog_keeps_no_painted_line(opened: Open) -> None:
    """Textual has a cache over a method of what holds them, which keeps 1,024 of these alive."""
    async with opened(200, 60) as session:
        BY_NAME["palette"].run(session.app)
        await session.settle()
        widgets = [session.app.screen, *session.app.screen.walk_children(Widget)]
        assert any(widget._styles_cache._cache for widget in widgets)
        await session.press("escape")
        assert len(session.app.screen_stack) == 1
        assert not any(widget._styles_cache._cache for widget in widgets)


async def test_a_dialog_keeps_the_keys_when_the_figures_come(opened: Open) -> None:
    async with opened(auto=False) as session:
        await session.press("escape")
        BY_NAME["palette"].run(session.app)
        await session.press("q")
        assert isinstance(session.app.screen, CommandPaletteScreen)
        session.engine.auto = True
        session.engine.load()
        await session.settle()
        assert session.app.grid.display
        assert session.app.focused is session.app.screen._line
        await session.press("u")
        assert session.app.screen._line.value == "qu"
        await session.press("escape")
        assert session.app.focused is session.app.grid.pane


@pytest.mark.parametrize("stage", ["compose", "on_mount", "_begin"])
async def test_leaving_during_the_start_is_no_error(
    opened: Open, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A widget cannot be mounted once the app was asked to end."""
    original = getattr(LlmscopeApp, stage)

    def leave_first(app: LlmscopeApp) -> Any:
        app.exit(130)
        return original(app)

    monkeypatch.setattr(LlmscopeApp, stage, leave_first)
    monkeypatch.setattr(waiting, "LIMIT", 2.0)  # its loop waits for what is never mounted
    async with opened() as session:
        await session.settle()
    app = session.app
    assert app.left
    assert (app._exception, app.return_value, app.return_code) == (None, 130, 0)
    _keep(app.source.spec, app, Autosave(app.source.spec, ""))  # and the prompt is saved


async def test_a_grid_that_is_gone_mounts_no_pane(opened: Open) -> None:
    async with opened() as session:
        grid = session.app.grid
        session.app._exit = True  # asked to end, and still at work on messages
        for workspace in grid.workspaces:
            grid.show(workspace)
        session.app._exit = False
        assert session.app._exception is None
        grid.show(grid.workspaces[0])
        grid.open(grid.workspaces[-1])
        await session.settle()
        assert all(grid.panes[key].parent is grid for key in grid.areas)
