"""Dialogs that are closed while they open: keys come faster than screens are mounted."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest
from textual.screen import ModalScreen

import llmscope.tui
from llmscope.tui.actions.registry import ACTIONS
from llmscope.tui.dialogs.base import Overlay
from tests.tui.conftest import Open, Session

LEAVING = ("quit", "quit-anywhere", "stop", "external-editor")
OPENED: set[type] = set()


async def close_soon(session: Session, name: str, pauses: int) -> bool:
    """Run an action, and close the dialog that it opens after so many turns of the event loop."""
    app = session.app
    action = next(action for action in ACTIONS if action.name == name)
    action.run(app)
    for _ in range(pauses):
        await asyncio.sleep(0)
    opened = len(app.screen_stack) > 1
    while len(app.screen_stack) > 1:
        OPENED.add(type(app.screen))
        app.screen.dismiss(None)
        await asyncio.sleep(0)
    return opened


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
    kinds = [ModalScreen]
    for kind in kinds:
        kinds += kind.__subclasses__()
    ours = [kind for kind in kinds if kind.__module__.startswith("llmscope.")]
    assert len(ours) > 10
    assert all(issubclass(kind, Overlay) for kind in ours if not inspect.isabstract(kind))
