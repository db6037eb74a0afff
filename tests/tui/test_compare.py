"""Compare: prompt A held against prompt B, under one cursor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from llmscope.engine.events import Want
from tests.tui.conftest import Open, Session

PANES = ("contrast", "contrast-kl", "contrast-word")


def wants(session: Session) -> dict[str, Want]:
    return {want.key: want for want in session.engine.requests[-1].wants}


async def begin(session: Session) -> None:
    await session.press("escape", "0", "b")
    session.app.look_at(replace(session.app.state, versus_prompt="A capital of Spain is"))
    await session.settle()


async def test_without_b_one_pane_says_how_to_give_one(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "b")
        assert "contrast-kl" not in session.app.grid.on_screen
        assert "contrast" in session.app.grid.on_screen
        assert "needs a prompt B" not in session.screen_text()
        assert "b b writes prompt B, b k keeps this one as B" in session.screen_text()
        await session.press("b", "k")
        assert session.engine.requests[-1].versus_prompt == session.app.text
        assert set(session.app.grid.on_screen) >= set(PANES)


async def test_views_and_the_cursor_are_those_of_the_main_figure(opened: Open) -> None:
    async with opened() as session:
        await begin(session)
        await session.press("left", "up")
        assert (session.app.state.focus.position, session.app.state.focus.layer) == (3, 28)
        assert {wants(session)[key].focus.position for key in PANES} == {3}
        assert "‹·France› · cosine of A and B" in session.screen_text()
        modes = []
        for _ in range(4):
            modes.append(wants(session)["contrast"].focus.mode)
            await session.press("d", "d")
        assert modes == ["cosine", "centred", "attention", "attention-difference"]
        await session.press("d", "d", "d", "d", "right")
        assert (session.app.state.focus.position, session.app.state.focus.head) == (3, 1)


async def test_the_line_in_words_reads_the_cosine_or_that_there_is_none(opened: Open) -> None:
    async with opened() as session:
        await begin(session)
        shown = session.app.figures.shown("contrast")
        assert shown is not None
        value = shown.figure.values[-1, -1]
        assert f"cosine of A and B {value:.3f}" in session.app.status.text
        await session.press("home", "right")
        assert np.isnan(shown.figure.values[-1, 1])
        assert "only A has this token" in session.app.status.text
        await session.press("1")
        assert "only A" not in session.app.status.text


async def test_titles_say_where_the_cue_comes_later(opened: Open) -> None:
    async with opened() as session:
        await begin(session)
        assert "the cue comes later" not in session.screen_text()
        await session.press("home")
        titles = [row for row in session.screen_text().split("\n") if "the cue comes later" in row]
        assert sum(row.count("the cue comes later") for row in titles) == len(PANES)
