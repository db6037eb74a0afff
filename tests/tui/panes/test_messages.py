"""The message of a refused pane: the whole of it is on screen where rows are free."""

from __future__ import annotations

from typing import Any

import pytest

from llmscope.figure import Figure
from llmscope.lenses.passages.lens import no_passages
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.workspaces import KEYS, WORKSPACES, Workspace
from tests.thinned import at_sizes
from tests.tui.acting import figure_for, tokenize
from tests.tui.conftest import PROMPT, Open, Session

COLOURS = "apple: red\nsky: blue\ngrass: green\n---\nsnow:"
SIZES = [(80, 24), (120, 40), (200, 60)]


def refuse(session: Session, *drawn: str) -> None:
    """Have the engine refuse every lens from now on, except those that are drawn."""
    answer = session.engine.answer

    def answering(request: Any, **more: Any) -> None:
        tokens = tokenize(request.text)
        figures = {want.key: figure_for(want, tokens) for want in request.wants}
        for want in request.wants:
            if want.lens not in ("tokens", *drawn):
                reason = f"{want.key}: {no_passages()}"
                figures[want.key] = Figure.refused(want.lens, "Refused", reason)
        answer(request, only=figures, **more)

    session.engine.answer = answering  # type: ignore[method-assign]


def messages(session: Session) -> dict[str, str]:
    """Return the messages of the panes on screen, by pane."""
    found = {}
    for key in session.app.grid.on_screen:
        pane, shown = session.app.grid.panes[key], session.app.figures.shown(key)
        if shown is not None and (text := pane.message(shown, session.app.state)):
            found[key] = text
    return found


def text_in(pane: FigurePane) -> str:
    """Return what a pane draws, in one line."""
    rows = ("".join(part.text for part in row) for row in pane._painting.rows)
    return " ".join(" ".join(rows).split())


@pytest.mark.few(1)
@pytest.mark.parametrize("size", at_sizes(SIZES, SIZES[0]))
@pytest.mark.parametrize("prompt", [PROMPT, COLOURS], ids=["one line", "five lines"])
async def test_each_message_of_each_workspace_is_whole(
    opened: Open, size: tuple[int, int], prompt: str
) -> None:
    count = 0
    async with opened(*size, prompt=prompt) as session:
        await session.press("escape")
        for one in reversed(WORKSPACES):
            await session.press(*KEYS[one.name].split())
            for key, message in messages(session).items():
                assert message in text_in(session.app.grid.panes[key]), (one.name, key)
                count += 1
    assert count >= 4, "Stages, Features, Models and patching lack something"


@pytest.mark.parametrize("size", at_sizes(SIZES, SIZES[0]))
@pytest.mark.parametrize("one", WORKSPACES, ids=lambda one: one.name)
@pytest.mark.parametrize("drawn", [True, False], ids=["beside a figure", "alone"])
@pytest.mark.few(3)
async def test_a_refused_pane_shows_the_whole_reason(
    opened: Open, size: tuple[int, int], one: Workspace, drawn: bool
) -> None:
    async with opened(*size, prompt=COLOURS) as session:
        await session.press("escape")
        want = session.app.grid.panes[one.spine].want(session.app.state)
        refuse(session, *([want.lens] if drawn and want is not None else []))
        # A layer that has not been looked at: for the one before, panes keep their rows.
        session.app.look_at(session.app.state.move_to(layer=3))
        await session.press(*KEYS[one.name].split())
        for key, message in messages(session).items():
            assert message in text_in(session.app.grid.panes[key]), key
        room = session.app.grid.region.area
        shown = session.app.grid.on_screen
        assert sum(session.app.grid.panes[key].region.area for key in shown) == room


async def test_nothing_moves_while_one_types_below_a_refused_main_figure(opened: Open) -> None:
    async with opened(80, 24, prompt=COLOURS) as session:
        await session.press("escape")
        refuse(session)
        session.app.look_at(session.app.state.move_to(layer=3))
        await session.press("0", "r", "e")  # where the prompt has the focus, it has its lines
        grid = session.app.grid
        before = {key: grid.panes[key].region for key in grid.on_screen}
        assert len(before) == 2
        session.engine.auto = False
        await session.press("x")
        assert {key: grid.panes[key].region for key in grid.on_screen} == before
        session.engine.auto = True
        await session.press("y")
        assert {key: grid.panes[key].region for key in grid.on_screen} == before
