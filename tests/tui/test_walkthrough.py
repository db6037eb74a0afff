"""Walkthrough: the step that is chosen, what follows it, and where it is from."""

from __future__ import annotations

from dataclasses import replace

import pytest

import llmscope
from llmscope.draw import RenderOptions
from llmscope.engine.events import Request, Want
from llmscope.figure import Focus
from llmscope.tui.panes.walkthrough import WalkthroughPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState, follow_step
from tests.tui.acting import INFO, tokenize
from tests.tui.acting_walk import FAILED, walk, walkthrough
from tests.tui.conftest import Open, Session
from tests.tui.real import answered, screen


def told(session: Session) -> list[str]:
    return [notice.message for notice in session.app._notifications]


def wants(session: Session) -> dict[str, Want]:
    return {want.key: want for want in session.engine.requests[-1].wants}


def marked(session: Session) -> str:
    """The row of the table that is marked."""
    rows = session.screen_text().split("\n")
    return next(row for row in rows if row.startswith("│ ▸"))[3:30].strip()


async def test_up_and_down_choose_a_step_and_the_panes_beside_follow(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "k")
        table = wants(session)["walkthrough"]
        assert session.app.state.step == 0
        await session.press("down", "down", "down", "down")
        assert session.app.state.step == 4
        assert marked(session).startswith("4 query")
        assert wants(session)["walk-values"].focus.step == 4
        assert wants(session)["walkthrough"] == table, "no other table is asked for"
        shown = session.screen_text()
        for said in (
            "Step 4 of 10 in words",
            "In plain words: what it looks for.",
            "formula  q = x W_q",
            "from     step 3, attention norm: 5 × 576",
            "weights  q_proj.weight: 576 × 576, outputs",
            "agrees   with the model within 3e-07",
        ):
            assert said in shown
        assert session.app.status.text.startswith("layer 29, ‹·is›: step 4, query, what it looks")
        await session.press(*["down"] * 8)
        assert session.app.state.step == len(walk(29)) - 1
        await session.press("1")
        assert "step" not in session.app.status.text


async def test_the_token_the_layer_and_the_head_are_the_cursors(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "k", "left", "g", "k", "right_square_bracket")
        focus = wants(session)["walk-values"].focus
        assert (focus.position, focus.layer, focus.head) == (3, 28, 1)
        assert wants(session)["walkthrough"].focus.layer == 28


async def test_one_goes_where_a_step_is_from(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "g", "i")
        assert told(session) == ["steps are in 0 k Walkthrough"]
        await session.press("0", "k", "down", "g", "i")
        assert session.app.state.step == 0
        await session.press("g", "i")
        assert told(session)[-1] == "this is where it begins"


async def test_a_refused_step_says_why(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "k")
        at = [name for name, *_ in walk(29)].index(FAILED)
        await session.press(*["down"] * at)
        shown = session.screen_text()
        assert "refused  the model's own numbers are shown:" in shown
        assert "differs by 0.2" in shown
        assert "partial" in shown


async def test_of_an_edited_pass_the_panes_say_how_to_walk_again(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "x", "0", "k")
        shown = session.screen_text()
        assert shown.count("only an unedited pass can be walked through: X a switches") == 1
        await session.press("down", "g", "i")
        assert session.app.state.step == 0
        await session.press("X", "a", "down")
        assert session.app.state.step == 1


@pytest.mark.parametrize("name", ["token embedding", "query", "residual add", "logits"])
@pytest.mark.parametrize("layers", [(29, 28), (29, 0), (5, 0), (0, 5), (28, 29), (3, 4)])
def test_a_step_is_kept_in_another_layer(name: str, layers: tuple[int, int]) -> None:
    old, new = layers
    names = [[one[0] for one in walk(layer)] for layer in layers]
    rows = [at for at, one in enumerate(walk(old)) if one[1] == old]
    step, inside = follow_step(names[0].index(name), (rows[0], rows[-1] + 1), old, new, 30)
    assert names[1][step] == name
    assert [at for at, one in enumerate(walk(new)) if one[1] == new] == list(range(*inside))


def test_a_layer_of_another_kind_is_left_where_it_ends() -> None:
    tokens = tokenize("a b")
    pane, state = (
        WalkthroughPane(RenderOptions()),
        ViewState(tokens=tokens).loaded(INFO).with_tokens(tokens),
    )

    def show(layer: int, without: str = "") -> list[str]:
        want = Want("walkthrough", "walkthrough", Focus(layer=layer))
        figure = walkthrough(want, tokens)
        steps = [one for one in figure.extra["steps"] if one["name"] != without]
        figure = replace(figure, extra={**figure.extra, "steps": steps})
        pane._shown = Shown(figure, want, tokens, Request(1, "a b", (want,)))
        return [one["name"] for one in steps]

    names = show(3, without="scores")
    state = pane.walk_to(state.move_to(layer=3), names.index("residual add"))
    pane._state = state
    state = pane._state = pane.onward(state, 1) or state
    assert (state.focus.layer, show(4)[state.step]) == (4, "attention norm")
    state = pane._state = pane.onward(state, -1) or state
    assert (state.focus.layer, names[state.step]) == (3, "residual add")


def test_a_scene_without_a_step_begins_at_the_first() -> None:
    assert ViewState().step == 0


async def test_on_a_real_model_a_step_is_kept_and_a_click_takes_one() -> None:
    async with screen(llmscope.load("builtin:sort"), "CABACB") as (app, pilot):
        await pilot.press("escape", "0", "k")
        await answered(app, pilot)
        await pilot.click(app.grid.panes["walkthrough"], offset=(6, 12))
        await answered(app, pilot)
        for key in ("left_curly_bracket", "left_curly_bracket", "right_curly_bracket"):
            shown = app.figures.shown("walk-values")
            assert shown is not None
            assert shown.figure.extra["name"] == "pattern"
            await pilot.press(key)
            await answered(app, pilot)
