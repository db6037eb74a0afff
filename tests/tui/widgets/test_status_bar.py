"""The footer: what stays where there is little room."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from llmscope.tui.state.workspaces import WORKSPACES
from tests.tui.conftest import Open


@pytest.mark.parametrize("width", [40, 60, 80, 120, 150, 200])
async def test_the_keys_of_the_cursor_come_before_the_workspaces(opened: Open, width: int) -> None:
    async with opened(width, 40 if width > 40 else 10) as session:
        await session.press("escape")
        footer = session.screen_text().split("\n")[-1]
        assert cell_len(footer) == width
        words = ["←→ token", "↑↓", "? help", "q quit"]
        places = [footer.index(word) for word in words]
        assert places == sorted(places)
        assert ("e edit" in footer) == (width >= 60)
        named = [one.name for one in WORKSPACES if one.title in footer]
        everyone = [one.name for one in WORKSPACES]
        assert named == (everyone if width >= 150 else ["overview"] if width >= 80 else [])


async def test_the_workspace_that_is_on_screen_has_a_mark(opened: Open) -> None:
    async with opened(120, 40) as session:
        await session.press("escape")
        for number, one in enumerate(WORKSPACES, start=1):
            await session.press(str(number))
            footer = session.screen_text().split("\n")[-1]
            assert footer.count("▸") == 1
            assert f"▸{number} {one.title}" in footer
