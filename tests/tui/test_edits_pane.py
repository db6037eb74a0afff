"""The list of edits: in any room, with hostile text, and by the mouse."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len

from llmscope.draw import RenderOptions
from llmscope.edits import parse
from llmscope.tui.features.undo import Edits
from llmscope.tui.panes.edits import NO_B, paint_edits
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO
from tests.tui.conftest import Open
from tests.tui.editing import HOSTILE, asked, begin

EXAMPLES = ("zero head 5.3", 'steer 6 token " Paris" 4', "patch stream 9 @-1 from B")
SIZES = [(40, 12), (80, 24), (120, 40), (200, 60)]


async def test_a_click_chooses_an_edit(opened: Open) -> None:
    async with opened() as session:
        await begin(session, "zero head 5.3", "zero mlp 2")
        await session.pilot.click("#edits", offset=(8, 1))
        await session.settle()
        assert session.app.state.chosen == 0


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_hostile_edits_are_shown_harmlessly(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        await begin(session, HOSTILE)
        session.app.look_at(replace(session.app.state, versus_prompt="\x1b[31m\u202e[/nope]\n漢"))
        await session.press("space", "x")
        for keys in ((), ("X",), ("escape",), ("W",), ("escape", "space")):
            await session.press(*keys)
            shown = session.screen_text()
            assert not [c for c in shown if c != "\n" and not c.isprintable()], keys
        await begin(session, HOSTILE)
        assert asked(session) == (str(parse(HOSTILE)),)


@pytest.mark.parametrize("size", SIZES)
async def test_the_workspace_fits(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        await session.press("escape", "4")
        app = session.app
        if size == (40, 12):
            assert app.grid.on_screen == ("edits",)
            assert session.wanted() == [
                "next-token",
                "tokens",
            ]  # which the examples of edits are made from
        if size == (80, 24):
            app.grid.enter("edits")  # what has the focus gets the room
            await session.settle()
        shown = session.screen_text()
        assert "patch stream" in shown
        assert "no prompt B" in shown
        await begin(session, *(f"zero head {layer}.3" for layer in range(12)))
        shown = session.screen_text()
        assert "▸12 ✓ zero head 11.3" in shown
        assert "12 edits" in shown.split("\n")[0]


def drawn(state: ViewState, width: int, height: int, *, ascii_only: bool = False) -> list[str]:
    look = RenderOptions(ascii=ascii_only)
    painting = paint_edits(state, width, height, look, lambda text: text, EXAMPLES)
    rows = ["".join(part.text for part in row) for row in painting.rows]
    assert [cell_len(row) for row in rows] == [width] * height
    return rows


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [1, 4, 9, 20, 40, 90])
@pytest.mark.parametrize("height", [1, 2, 3, 5, 12])
def test_the_list_is_drawn_in_any_room(width: int, height: int, ascii_only: bool) -> None:
    state = ViewState().loaded(INFO)
    drawn(state, width, height, ascii_only=ascii_only)
    for edit in (*EXAMPLES, HOSTILE):
        state = state.with_edit(parse(edit))
    state = replace(state.blamed({str(parse(HOSTILE)): "no"}), versus_prompt="漢\n" * 40)
    rows = drawn(state, width, height, ascii_only=ascii_only)
    assert width < 9 or any("4" in row for row in rows), "the chosen one is in sight"


def test_how_to_give_a_prompt_b_is_whole_where_rows_are_free() -> None:
    state = ViewState().loaded(INFO)
    rows = drawn(state, 46, 12)
    assert NO_B in " ".join(" ".join(rows).split())
    assert EXAMPLES[-1] in " ".join(rows)
    assert drawn(state, 46, 5)[-1].rstrip().endswith("…")


def test_a_long_edit_is_cut_and_its_strength_is_not() -> None:
    state = ViewState().with_edit(parse('steer 6 "a very long prompt" - "another" 2.5 @3..7'))
    (row,) = drawn(state, 30, 1)
    assert row.startswith("▸1 ✓ steer 6 'a very")
    assert row.rstrip().endswith("… 2.5")


def change(state: ViewState, past: list[Edits], chance: random.Random) -> ViewState:
    """Return the view state after something that a key, undo or the engine does to the list."""
    edit = parse(chance.choice((*EXAMPLES, "zero mlp 2", "scale head 1.1 2")))
    changes: list[Callable[[], ViewState]] = [
        lambda: state.with_edit(edit),
        lambda: state.with_edit_in_place(edit),
        lambda: state.flipped(edit),
        lambda: state.blamed({str(edit): "no"}),
        lambda: state.choosing(chance.randrange(-3, 4)),
        lambda: chance.choice(past).onto(state),
        state.all_switched,
    ]
    if state.edits:
        changes += [
            lambda: state.without_edit(chance.randrange(len(state.edits))),
            lambda: state.without_edit(state.chosen),
            state.toggled,
            state.moved_edit,
        ]
        if state.edits[state.chosen].edit.turnable:
            changes.append(lambda: state.turned_edit(chance.choice((-1, 1))))
    return chance.choice(changes)()


def test_an_edit_of_the_list_is_chosen_whatever_happened_to_it() -> None:
    """And drawn at every height of the pane."""
    chance = random.Random(4)
    for _ in range(60):
        state = ViewState().loaded(INFO)
        past = [Edits.of(state, 0)]
        for _ in range(30):
            state = change(state, past, chance)
            past.append(Edits.of(state, 0))
            assert (state.chosen_edit is None) == (not state.edits)
            drawn(state, 20, chance.randrange(0, 6))
