"""The tour, and the invitation to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.geometry import Region, Size

from llmscope.tui.actions.keymap import keymap_from
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.dialogs.tour import STOPS, TourScreen, beside
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.user_state import UserState
from tests.stored import save, saved_layout
from tests.tui.conftest import PROMPT, Open

SHOWN = {
    (40, 10): ["prompt", "next-token", "words", "keys"],
    (80, 24): ["prompt", "map", "next-token", "words", "keys"],
    (120, 40): ["prompt", "map", "next-token", "attention", "mlp", "words", "keys"],
}


@pytest.mark.parametrize("size", SHOWN)
async def test_each_card_points_at_what_is_on_screen(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        app = session.app
        app.action_act("tour")
        await session.settle()
        places = {"prompt": app.editor, "words": app.status, "keys": app.key_line, **app.grid.panes}
        titles = {stop.place: stop.title for stop in STOPS}
        for number, place in enumerate(SHOWN[size], start=1):
            text = session.screen_text()
            assert titles[place] in text
            assert f"{number} of {len(SHOWN[size])}" in text
            corner = places[place].region.offset
            assert text.split("\n")[corner.y][corner.x : corner.x + 3] == " ▸ "
            card = app.screen.query_one("#tour").region
            assert app.screen.region.contains_region(card)
            assert "{" not in str(app.screen.query_one("#tour").render())
            await session.press("x")
        assert len(app.screen_stack) == 1
        assert app.text == PROMPT


async def test_the_first_card_says_how_to_get_out_of_the_prompt(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("tour")
        await session.settle()
        said = " ".join(str(session.app.screen.query_one("#tour").render()).split())
        assert "esc leads to the figures, e back" in said


async def test_esc_leaves_the_tour_at_once(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("tour")
        await session.press("x", "escape")
        assert len(session.app.screen_stack) == 1
        assert session.app.focused is session.app.editor


async def test_the_tour_names_a_persons_own_keys(opened: Open) -> None:
    keymap = keymap_from({"keys": {"map-view": "n", "save": ""}})
    async with opened(user=UserState(keymap=keymap)) as session:
        session.app.action_act("tour")
        await session.press("x")
        assert isinstance(session.app.screen, TourScreen)
        said = " ".join(str(session.app.screen.query_one("#tour").render()).split())
        assert "n shows another view" in said


def test_the_keys_that_the_tour_names_are_actions() -> None:
    named = [part.split("}")[0] for stop in STOPS for part in stop.text.split("{")[1:]]
    assert named
    assert set(named) <= set(BY_NAME)


def test_a_card_stands_beside_its_place_where_there_is_room() -> None:
    card, screen = Size(46, 6), Size(120, 40)
    assert beside(Region(0, 1, 120, 3), card, screen).y == 4
    assert beside(Region(0, 38, 120, 1), card, screen).y == 32
    assert beside(Region(0, 4, 70, 34), card, screen).x == 70
    assert beside(Region(50, 4, 70, 34), card, screen).x == 4
    inside = beside(Region(0, 0, 120, 40), card, screen)
    assert (inside.x, inside.y) == (74, 34)


@pytest.mark.parametrize(("newcomer", "told"), [(True, True), (False, False)])
async def test_only_a_newcomer_is_invited(opened: Open, newcomer: bool, told: bool) -> None:
    async with opened(user=UserState(newcomer=newcomer)) as session:
        assert len(session.app.screen_stack) == 1
        assert ("new?" in session.screen_text()) is told
        if told:
            row = session.screen_text().split("\n")[-1]
            await session.pilot.click(session.app.key_line, offset=(row.index("new?"), 0))
            await session.settle()
            assert isinstance(session.app.screen, TourScreen)
            await session.press("escape", "escape")
            assert "new?" not in session.screen_text()


def test_whoever_was_here_once_is_no_newcomer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    assert saved_layout() is None
    save("layout", LayoutState())
    assert saved_layout() is not None
