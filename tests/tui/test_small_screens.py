"""Small screens: the rows go to what has the focus, and nothing moves while one types."""

from __future__ import annotations

import pytest

from llmscope.tui.app import LlmscopeApp
from llmscope.tui.state.layout import BORDER, LEAST
from tests.tui.conftest import Open

LONG = " ".join(f"word{at}" for at in range(80))
SMALL = [(80, 24), (60, 20)]


def row_of_cursor(app: LlmscopeApp) -> int:
    """Return the row of the editor, from 0, that has the token under the shared cursor."""
    editor = app.editor
    token = editor._tokens[app.state.focus.position]
    place = editor.document.get_location_from_index(token.start)
    return editor.wrapped_document.location_to_offset(place).y - editor.scroll_offset.y


@pytest.mark.parametrize("size", SMALL, ids=str)
async def test_the_prompt_has_two_lines_while_the_figures_have_the_focus(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size, prompt=LONG) as session:
        app = session.app
        typed = app.editor.size.height
        assert typed > 2
        await session.press("escape")
        assert app.editor.size.height == 2
        for keys in (["home"], ["right"] * 30, ["end"]):
            await session.press(*keys)
            assert 0 <= row_of_cursor(app) < 2, keys
        await session.press("home", "e")
        assert app.editor.size.height == typed
        column, row = app.editor.cursor_screen_offset
        assert app.editor.region.contains(column, row), "the text cursor is in sight again"


@pytest.mark.parametrize("size", SMALL, ids=str)
@pytest.mark.few(1)
async def test_a_second_prompt_shrinks_too(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size, prompt=LONG) as session:
        app = session.app
        await session.press("escape", "b", "k", "6")
        assert app.prompts.both
        assert [editor.size.height for editor in (app.prompts.a, app.prompts.b)] == [2, 2]
        assert min(area.height for area in app.grid.areas.values()) >= LEAST - 1


async def test_a_larger_screen_leaves_the_prompt_as_it_is(opened: Open) -> None:
    async with opened(120, 40, prompt=LONG * 2) as session:
        before = session.app.prompts.region
        await session.press("escape")
        assert session.app.prompts.region == before


@pytest.mark.parametrize("size", SMALL, ids=str)
async def test_the_focused_pane_gets_the_room(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        grid = session.app.grid
        await session.press("escape")
        for _ in grid.reachable:
            await session.press("tab")
            focused = grid.areas[grid.pane.key].height
            assert len(grid.areas) == 2
            wanted = grid.pane.useful_rows(30).least + BORDER
            assert focused >= min(wanted, grid.size.height - max(LEAST, grid.size.height // 3))
            said = "tab 2 of 5 panes" in session.screen_text().split("\n")[-1]
            assert said == (size[0] >= 80), "the prompt's key has precedence"
        focused = dict(grid.areas)
        await session.press("e")
        (beside,) = set(grid.areas) - {grid.current}
        assert grid.areas[beside].height >= focused[beside].height, "none has the focus"
        await session.press("escape")
        assert grid.areas == focused


@pytest.mark.parametrize("size", [*SMALL, (20, 5)], ids=str)
async def test_nothing_moves_while_one_types(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size, prompt="a b") as session:
        app = session.app
        before = dict(app.grid.areas)
        for letter in "c d e":
            await session.press(letter)
            assert app.grid.areas == before
        await session.press("escape")
        before = dict(app.grid.areas)
        for _ in range(3):
            await session.press("w", "w")
            assert app.grid.areas == before


async def test_a_tiny_screen_shows_each_pane_alone(opened: Open) -> None:
    async with opened(20, 5) as session:
        app = session.app
        grid = app.grid
        assert grid.on_screen == (grid.workspace.least,)
        await session.press("escape")
        assert app.editor.size.height == 1
        seen = [grid.pane.key]
        for _ in grid.workspace.details:
            await session.press("tab")
            assert grid.on_screen == (grid.pane.key,)
            assert app.focused is grid.pane
            assert grid.pane.region.height >= 2
            seen.append(grid.pane.key)
        assert sorted(seen) == sorted(grid.workspace.panes)
        await session.press("escape")
        assert grid.on_screen == (grid.workspace.least,)
        await session.press("tab")
        await session.pilot.resize_terminal(120, 40)
        await session.settle()
        assert len(grid.on_screen) > 2, "a larger screen has room for the others again"


@pytest.mark.parametrize("size", SMALL, ids=str)
async def test_a_click_takes_the_cell_under_the_mouse_before_anything_moves(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size, prompt=LONG) as session:
        app, grid = session.app, session.app.grid
        await session.press("escape", "tab")
        await session.press("e")
        pane = grid.panes[grid.workspace.spine]
        before = dict(grid.areas)
        across = max(pane._painting.across)
        row = max(pane._painting.down)
        hit = pane._painting.hit(across, row)
        assert hit is not None
        offset = (pane.region.x + pane.gutter.left + across, pane.region.y + pane.gutter.top + row)
        await session.pilot.click(offset=offset)
        await session.settle()
        assert app.focused is pane
        assert app.state.focus.position == hit["position"]
        assert grid.areas != before, "it has the room now"
        assert grid.areas[pane.key].height > before[pane.key].height
