"""The footer: what stays where there is little room."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.tui.conftest import Open


@pytest.mark.few(3)
@pytest.mark.parametrize("width", [40, 60, 80, 120, 150, 200])
async def test_the_keys_of_the_cursor_come_first_and_help_and_quit_stay(
    opened: Open, width: int
) -> None:
    async with opened(width, 40 if width > 40 else 10) as session:
        await session.press("escape")
        footer = session.screen_text().split("\n")[-1]
        assert cell_len(footer) == width
        words = ["←→ token", "↑↓", "? help", "q quit"]
        places = [footer.index(word) for word in words]
        assert places == sorted(places)
        assert ("e edit" in footer) == (width >= 60)


async def test_the_keys_are_those_of_the_workspace_on_screen_though_the_pane_stays_focused(
    opened: Open,
) -> None:
    async with opened(120, 40) as session:
        session.app.grid.enter("mlp")  # a pane of both workspaces
        await session.settle()
        footer = session.screen_text().split("\n")[-1]
        assert "[ ] head" in footer
        await session.press("0", "n")
        assert session.app.focused is session.app.grid.panes["mlp"]
        footer = session.screen_text().split("\n")[-1]
        assert "[ ] head" not in footer
