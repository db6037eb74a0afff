"""The views of a pane: forward, back, and from a menu, by keys and by the mouse."""

from __future__ import annotations

import pytest

from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.features.models.model_picker import PickerScreen
from tests.tui.conftest import Open, Session


def several(session: Session) -> list[str]:
    return [key for key, pane in session.app.grid.panes.items() if len(pane.views) > 1]


@pytest.mark.slow
async def test_v_goes_on_and_capital_v_back_in_every_pane(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        assert len(several(session)) >= 13
        for key in several(session):
            app.grid.enter(key)
            pane, before = app.grid.panes[key], app.state
            if app.grid.pane is not pane:  # another one says what is missing
                continue
            offered = list(pane.offered_views(before))
            seen = []
            for _ in offered:
                seen.append(pane.view_index(app.state))
                await session.press("d", "d")
            assert sorted(seen) == offered, key
            assert pane.view_index(app.state) == seen[0], key
            await session.press("d", "b")
            assert pane.view_index(app.state) == seen[-1], key
            await session.press("d", "d")


async def test_a_pane_with_one_view_says_so_and_no_other_pane_turns(opened: Open) -> None:
    async with opened() as session:
        session.app.grid.enter("mlp")
        before = session.app.state
        await session.press("d", "d")
        assert session.app.state == before
        assert "one view" in session.screen_text()


async def test_the_menu_lists_the_views_and_shows_the_chosen_one(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.dialogs.menu.WAIT", 0.0)
    async with opened() as session:
        session.app.grid.enter("heads")
        await session.settle()
        session.app.action_act("menu-view")
        await session.settle()
        assert isinstance(session.app.screen, MenuScreen)
        text = session.screen_text()
        pane = session.app.grid.panes["heads"]
        for index in range(len(pane.views)):
            assert f"{index + 1}  {pane.view_name(index)}" in text
        await session.press("4")
        assert pane.views[pane.view_index(session.app.state)] == "sink"
        await session.press("d", "escape")
        assert pane.views[pane.view_index(session.app.state)] == "sink"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_click_on_a_title_opens_its_menu_and_drags_no_border(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        grid = session.app.grid
        await session.press("escape", *["tab"] * grid.reachable.index("next-token"))
        before = dict(grid.areas)
        area = grid.areas["next-token"]
        await session.pilot.click("#grid", offset=(area.x + 4, area.y))
        await session.settle()
        assert isinstance(session.app.screen, MenuScreen)
        assert grid.current == "next-token"
        await session.press("2")
        assert grid.panes["next-token"].view_index(session.app.state) == 1
        assert grid.areas == before


async def test_a_click_on_the_models_name_lists_models(opened: Open) -> None:
    async with opened() as session:
        await session.pilot.click("#header", offset=(3, 0))
        await session.settle()
        assert isinstance(session.app.screen, PickerScreen)
