"""The value of the cell under the mouse."""

from __future__ import annotations

import pytest

import llmscope
from tests.tui.real import answered, screen


async def test_resting_on_a_cell_of_the_map_shows_its_token_and_value() -> None:
    scope = llmscope.load("builtin:sort")
    scope.record("CAB")
    own = scope.look("logit-lens")
    async with screen(scope, "CAB") as (app, pilot):
        await answered(app, pilot)
        pane = app.grid.panes["map"]
        seen = set()
        for y in range(pane.region.height):
            for x in range(0, pane.region.width, 3):
                hit = pane._painting.hit(x - 2, y - 1)
                if hit and set(hit) == {"layer", "position"}:
                    await pilot.hover(pane, offset=(x, y))
                    place = (hit["layer"], hit["position"])
                    token = own.extra["names"][int(own.extra["ids"][place])]
                    assert f"‹{token}›" in str(pane.tooltip)
                    seen.add(place)
        assert len(seen) >= 6
        await pilot.hover(app.editor)
        assert pane.tooltip is None


@pytest.mark.parametrize("workspace", "123467")
@pytest.mark.few(1)
async def test_any_cell_of_any_pane_has_a_harmless_text(workspace: str) -> None:
    async with screen(llmscope.load("builtin:sort"), "CAB") as (app, pilot):
        await pilot.press("escape", workspace)
        await answered(app, pilot)
        found = 0
        for key in app.grid.on_screen:
            pane = app.grid.panes[key]
            for y in range(pane.size.height):
                for x in range(pane.size.width):
                    hit = pane._painting.hit(x, y)
                    found += bool(hit and pane.value_at(hit))
        assert found
