"""Undo covers the text and the edits of the pass, in the order in which they changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmscope.models.spec import DEFAULT
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.widgets.placeholder import first_look
from tests.tui.acting import INFO
from tests.tui.conftest import PROMPT, Open
from tests.tui.session.test_session import seen


async def test_an_ablation_is_undone_and_redone(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "2", "x")
        edit = session.app.state.in_force
        assert len(edit) == 1
        await session.press("ctrl+z")
        assert session.app.state.in_force == ()
        await session.press("ctrl+y")
        assert session.app.state.in_force == edit
        await session.press("ctrl+z", "ctrl+z")
        assert session.app.state.in_force == ()


@pytest.mark.few(1)
@pytest.mark.parametrize("place", ["prompt", "figures"])
async def test_text_and_edits_come_back_in_their_order(opened: Open, place: str) -> None:
    async with opened() as session:
        app = session.app
        await session.press("!", "escape", "2", "x", "right", "x", "e", "?", "?")
        assert app.text == f"{PROMPT}!??"
        both = app.state.in_force
        assert len(both) == 2
        await session.press("end" if place == "prompt" else "escape")
        seen = []
        for _ in range(4):
            await session.press("ctrl+z")
            seen.append((app.text, len(app.state.in_force)))
        assert seen == [(f"{PROMPT}!", 2), (f"{PROMPT}!", 1), (f"{PROMPT}!", 0), (PROMPT, 0)]
        for _ in range(4):
            await session.press("ctrl+y")
        assert (app.text, app.state.in_force) == (f"{PROMPT}!??", both)


async def test_a_new_edit_ends_what_could_be_redone(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "2", "x", "ctrl+z", "right", "x")
        now = session.app.state.in_force
        await session.press("ctrl+y")
        assert session.app.state.in_force == now
        assert "nothing to redo" in session.screen_text()


async def test_reset_shows_the_model_as_at_its_start_and_undo_brings_all_back(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        session.engine.load(replace(INFO, adapters=("poet",)))
        await session.settle()
        start, first = app.state, app.grid.workspace
        await session.press("escape", "x")
        app.look_at(replace(app.state.against("x"), view=1, adapter="poet"))
        await session.press("2", "up")
        before = seen(session)
        was = app.state
        assert was.edits
        assert was.adapter == "poet"
        BY_NAME["reset"].run(app)
        await session.settle()
        now = app.state
        assert (now.edits, now.adapter, now.versus_prompt) == ((), None, None)
        assert (now.view, now.turns, app.grid.workspace) == (start.view, start.turns, first)
        assert app.text == PROMPT
        assert session.engine.requests[-1].edits == ()
        await session.press("ctrl+z")
        app.clear_notifications()
        await session.settle()
        assert app.state == was
        after = seen(session)
        assert after["scene"] == before["scene"]
        assert app.grid.workspace.name == "heads"
        await session.press("ctrl+y")
        assert app.state.edits == ()
        await session.press("ctrl+z")
        assert app.state == was


async def test_reset_looks_where_the_first_session_looked(opened: Open) -> None:
    async with opened(spec=DEFAULT) as session:
        app = session.app
        await session.press("escape", "home", "g", "j")
        BY_NAME["reset"].run(app)
        await session.settle()
        assert app.state.focus.layer == first_look(DEFAULT)["layer"]
        assert app.state.following
