"""Switching adapters on the screen."""

from __future__ import annotations

import json
from dataclasses import replace

from llmscope.draw import RenderOptions
from llmscope.tui.features.copy.cursor_value import picture
from llmscope.tui.features.save.provenance import about
from tests.tui.acting import INFO, figure_for, tokenize
from tests.tui.conftest import PROMPT, Open, Session

ADAPTED = replace(INFO, adapter="poet", adapters=("poet", "lawyer"))


def asked_of(session: Session) -> str | None:
    return session.engine.requests[-1].adapter


async def test_the_key_goes_round_adapters_and_base(opened: Open) -> None:
    async with opened() as session:
        session.engine.load(ADAPTED)
        await session.settle()
        assert asked_of(session) == "poet"
        assert "SmolLM2-135M-Instruct + poet" in session.screen_text()
        await session.press("escape")
        for name, title in (("lawyer", "+ lawyer"), (None, "· base model"), ("poet", "+ poet")):
            await session.press("c", "a")
            assert asked_of(session) == name
            assert session.engine.requests[-1].text == PROMPT
            assert f"SmolLM2-135M-Instruct {title}" in session.screen_text()
            said = "the base model, without an adapter" if name is None else f"the adapter {name}"
            assert [notice.message for notice in session.app._notifications][-1] == said


async def test_every_pane_names_the_adapter_in_its_title(opened: Open) -> None:
    async with opened(160, 50) as session:
        session.engine.load(ADAPTED)
        await session.settle()
        await session.press("escape", "c", "a")
        panes = [session.app.grid.panes[key] for key in session.app.grid.on_screen]
        titles = [str(pane.border_title) for pane in panes]
        assert len(titles) > 3
        assert [title for title in titles if "+ lawyer" not in title] == []
        await session.press("c", "a")
        assert not any("+ " in str(pane.border_title) for pane in panes)


async def test_the_old_picture_is_stale_until_the_other_model_answers(opened: Open) -> None:
    async with opened() as session:
        session.engine.load(ADAPTED)
        await session.settle()
        await session.press("escape")
        session.engine.auto = False
        before = session.engine.requests[-1]
        await session.press("c", "a")
        assert session.app.figures.stale("next-token")
        session.engine.answer(before)  # too late: it is of the adapter that was on
        await session.settle()
        assert session.app.figures.stale("next-token")
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert not session.app.figures.stale("next-token")


async def test_without_adapters_the_key_says_so(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "c", "a")
        (notice,) = session.app._notifications
        assert "no adapter was loaded" in notice.message
        assert session.app.state.adapter is None


async def test_the_map_never_wears_the_surprisal_of_another_model(opened: Open) -> None:
    async with opened() as session:
        session.engine.load(ADAPTED)
        await session.settle()
        await session.press("escape")
        session.engine.auto = False
        await session.press("c", "a")
        pane = session.app.grid.panes["map"]
        assert pane._tokens is not None
        request = session.engine.requests[-1]
        figure = figure_for(next(w for w in request.wants if w.key == "map"), tokenize(PROMPT))
        session.engine.answer(request, only={"map": figure}, complete=False)
        await session.settle()
        assert pane.shown is not None
        assert pane.shown.request.adapter == "lawyer"
        assert pane._tokens is None  # the same text, but what stands is the other adapter's
        session.engine.answer(request)
        await session.settle()
        assert pane._tokens is not None


async def test_what_is_saved_names_the_adapter_that_is_shown(opened: Open) -> None:
    async with opened() as session:
        session.engine.load(ADAPTED)
        await session.settle()
        await session.press("escape", "c", "a", "c", "a")
        shown = session.app.figures.shown("map")
        assert shown is not None
        state = session.app.state
        told = about(session.app.source, shown, state, "json", None)
        saved = picture(shown, state, "json", size=(80, 20), look=RenderOptions(), about=told)
        assert json.loads(saved)["model"]["adapter"] is None
        assert session.app.state.info is not None
        assert session.app.state.info.adapter == "poet"
