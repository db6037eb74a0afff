"""Panes hidden, shown, moved, folded to a line, and found again as they were left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from llmscope.draw import RenderOptions, load_theme
from llmscope.figure import Figure
from llmscope.tui.pane_grid import PaneGrid
from llmscope.tui.state.layout import LINE, Arrangement
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.view_state import MAP_VIEWS, ViewState
from llmscope.tui.state.workspaces import BY_NAME
from llmscope.tui.user_state import UserState
from tests.stored import part_in, put_into, save, saved_layout, saved_prompt
from tests.thinned import at_sizes
from tests.tui.acting import figure_for, tokenize
from tests.tui.conftest import Open, Session

OVERVIEW = BY_NAME["overview"]
DETAILS = OVERVIEW.details
UNTOUCHED = LayoutState(arrangements={name: Arrangement.of(one) for name, one in BY_NAME.items()})
MEDIUM = ["map", "next-token", "attention", "mlp"]


def regions(session: Session) -> dict[str, tuple[int, int, int, int]]:
    overview = session.app.grid
    return {key: tuple(overview.panes[key].region) for key in overview.on_screen}


def area(session: Session) -> int:
    return sum(width * height for _, _, width, height in regions(session).values())


def refused_for(session: Session, lens: str, *, layers: Sequence[int]) -> None:
    """From now on the engine refuses a lens in some layers."""
    engine = session.engine
    answer = engine.answer

    def answering(request: Any, **more: Any) -> None:
        tokens = tokenize(request.text)
        figures = {want.key: figure_for(want, tokens) for want in request.wants}
        for want in request.wants:
            if want.lens == lens and want.focus.layer in layers:
                figures[want.key] = _refused(figures[want.key])
        answer(request, only=figures, **more)

    engine.answer = answering  # type: ignore[method-assign]


def _refused(figure: Figure) -> Figure:
    return Figure.refused(figure.lens, figure.title, "no attention in this layer: a recurrence")


async def test_a_pane_is_hidden_and_its_room_goes_to_the_others(opened: Open) -> None:
    async with opened() as session:
        whole = area(session)
        await session.press("escape", "tab", "tab", "p", "h")
        assert list(session.app.grid.on_screen) == ["map", "next-token", "mlp"]
        assert area(session) == whole
        assert "attention" not in session.wanted()
        assert session.app.focused is session.app.grid.panes["mlp"]
        await session.press("p", "a")
        assert list(session.app.grid.on_screen) == MEDIUM
        assert session.app.focused is session.app.grid.panes["mlp"]


async def test_the_palette_hides_shows_and_enters_any_pane(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("hide-mlp")
        await session.settle()
        assert "mlp" not in session.app.grid.on_screen
        assert session.app.focused is session.app.editor
        session.app.action_act("hide-mlp")
        await session.settle()
        assert "mlp" in session.app.grid.on_screen
        session.app.action_act("hide-mlp")
        session.app.action_act("pane-mlp")
        await session.settle()
        assert list(session.app.grid.on_screen) == MEDIUM
        assert session.app.focused is session.app.grid.panes["mlp"]


async def test_the_map_stays_and_says_so(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "p", "h", "p", "less_than_sign")
        assert list(session.app.grid.on_screen) == MEDIUM
        told = {notice.message for notice in session.app._notifications}
        assert told == {"the main figure stays; m gives another pane all the room"}


async def test_details_change_places(opened: Open) -> None:
    async with opened() as session:
        before = regions(session)
        await session.press("escape", "tab", "p", "greater_than_sign")
        assert list(session.app.grid.on_screen) == ["map", "attention", "next-token", "mlp"]
        after = regions(session)
        assert after["attention"][:2] == before["next-token"][:2]
        assert session.app.focused is session.app.grid.panes["next-token"]
        await session.press("p", "less_than_sign", "p", "less_than_sign")
        assert list(session.app.grid.on_screen) == MEDIUM
        assert regions(session) == before


@pytest.mark.few(5)
@pytest.mark.parametrize(
    "size",
    at_sizes([(80, 24), (120, 30), (120, 50), (200, 60), (200, 30)], (80, 24), (120, 50)),
)
@pytest.mark.parametrize("hidden", range(len(DETAILS) + 1))
async def test_no_number_of_panes_leaves_a_hole(
    opened: Open, size: tuple[int, int], hidden: int
) -> None:
    kept = LayoutState(arrangements={"overview": Arrangement.of(OVERVIEW, hidden=DETAILS[:hidden])})
    async with opened(*size, user=UserState(kept=kept)) as session:
        room = session.app.grid.region
        assert area(session) == room.area
        for x, y, width, height in regions(session).values():
            assert x >= room.x
            assert x + width <= room.right
            assert y + height <= room.bottom
        assert session.app.grid.on_screen[0] == "map"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_a_refused_pane_takes_one_line(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        refused_for(session, "attention", layers=[3])
        session.app.grid.enter("attention")
        await session.settle()
        full = area(session)
        session.app.look_at(session.app.state.move_to(layer=3))
        await session.settle()
        await session.settle()
        pane = session.app.grid.panes["attention"]
        assert pane.region.height == LINE
        assert area(session) == full
        assert "no attention in this layer: a recurrence" in session.screen_text()
        assert session.app.focused is pane
        session.app.look_at(session.app.state.move_to(layer=4))
        await session.settle()
        await session.settle()
        assert pane.region.height > LINE


async def test_nothing_moves_while_one_types_whatever_is_refused(opened: Open) -> None:
    async with opened() as session:
        refused_for(session, "attention", layers=range(30))
        before = regions(session)
        await session.press("space", "x")
        assert regions(session) == before
        assert "no attention in this layer" in session.screen_text()


async def test_a_figure_that_comes_back_gets_its_room_for_good(opened: Open) -> None:
    async with opened() as session:
        full = regions(session)
        refused: list[int] = [3]
        refused_for(session, "attention", layers=refused)
        session.app.look_at(session.app.state.move_to(layer=3))
        await session.settle()
        assert regions(session) != full
        refused.clear()
        await session.press("x")
        await session.settle()
        assert regions(session) == full
        refused.append(3)
        await session.press("y")
        await session.settle()
        assert regions(session) == full


async def test_a_maximized_pane_keeps_all_the_room(opened: Open) -> None:
    async with opened() as session:
        refused_for(session, "attention", layers=range(30))
        session.app.grid.enter("attention")
        await session.press("p", "m", "up")
        assert session.app.grid.panes["attention"].region.height > LINE


def test_what_is_kept_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    assert saved_layout() is None
    arrangement = Arrangement.of(OVERVIEW).hide("mlp").move("attention", -1)
    state = replace(ViewState(), view=2, attention=1)
    kept = LayoutState.of(BY_NAME["context"], {"overview": arrangement}, state, ())
    save("layout", kept)
    assert saved_layout() == kept
    grid = PaneGrid(RenderOptions(load_theme("dark")), **kept.panes)
    assert grid.workspace.name == "context"
    assert grid.arrangements["overview"].shown == ("attention", "next-token", "tokens")
    assert grid.arrangements["context"] == Arrangement.of(BY_NAME["context"])
    restored = kept.onto(ViewState())
    assert (restored.map_view, restored.attention_mode) == (MAP_VIEWS[2], "mean")


async def test_the_screen_opens_as_it_was_left(opened: Open) -> None:
    panes = UNTOUCHED.arrangements | {"overview": Arrangement.of(OVERVIEW).hide("mlp")}
    kept = LayoutState("overview", panes, ("logit-lens", "top"), "max")
    async with opened(user=UserState(kept=kept)) as session:
        assert list(session.app.grid.on_screen) == ["map", "next-token", "attention"]
        assert "logit lens" in session.screen_text()
        assert "max of 9 heads" in session.screen_text()
        await session.press("escape", "d", "d")
        overview = session.app.grid
        left = LayoutState.of(overview.workspace, overview.arrangements, session.app.state, ())
        assert left == structs.replace(kept, view=("logit-lens", "target"))


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        '"\\u0000"',
        '{"panes": {"overview": {"order": 3, "hidden": {"a": 1}}}, "view": "top"}',
        '{"panes": {"overview": {"order": ["none", 3], "hidden": ["map", "none"]}}}',
        '{"panes": {"overview": [1]}, "workspace": "none", "view": ["no", "such"]}',
        '{"panes": "overview", "workspace": ["context"], "attention": ["raw"]}',
        '{"view": ["logit-lens"], "panes": {"context": {"hidden": [["mlp"]]}}}',
        '{"workspace": "none", "view": ["no", "such"], "attention": "no"}',
        '{"panes": {"overview": {"order": ["none"], "hidden": ["map", "none"]}, "none": {}}}',
        '{"panes": {"overview": {"order": ["none"], "hidden": ["map", "none"]}}}',
    ],
)
def test_a_broken_layout_is_ignored_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    put_into(tmp_path, layout=json.loads(content), prompts={"gpt2": "x"})
    kept = saved_layout() or LayoutState()
    grid = PaneGrid(RenderOptions(load_theme("dark")), **kept.panes)
    assert grid.workspace.name == "overview"
    assert grid.arrangements == UNTOUCHED.arrangements
    assert kept.onto(ViewState()) == ViewState()
    save("layout", LayoutState())
    assert saved_layout() == LayoutState()
    assert saved_prompt("gpt2") == "x"


def test_names_of_panes_that_are_not_known_yet_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    panes = {"overview": {"order": ["theirs", "mlp"], "hidden": ["theirs"]}}
    put_into(tmp_path, layout={"panes": panes})
    kept = saved_layout()
    assert kept is not None
    assert kept.arrangements == {"overview": Arrangement(("theirs", "mlp"), frozenset(["theirs"]))}
    save("layout", kept)
    stored = part_in(tmp_path, "layout")["panes"]["overview"]
    assert stored == {**panes["overview"], "heights": {}}


def test_panes_that_a_file_does_not_know_come_last() -> None:
    arrangement = Arrangement.of(OVERVIEW, ["mlp", "mlp", "gone"], ["tokens", "gone"])
    assert arrangement.order == ("mlp", "next-token", "attention", "tokens")
    assert arrangement.shown == ("mlp", "next-token", "attention")
    assert set(OVERVIEW.panes) - set(arrangement.order) == {"map"}


SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.mark.few(3)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", ["plus", "minus"])
async def test_a_pane_gets_rows_by_key_and_its_neighbour_gives_them(
    opened: Open, size: tuple[int, int], key: str
) -> None:
    async with opened(*size) as session:
        grid = session.app.grid
        await session.press("escape", "tab")
        before, whole = dict(grid.areas), area(session)
        await session.press("p", key)
        changed = {
            one: grid.areas[one].height - before[one].height
            for one in before
            if grid.areas[one] != before[one]
        }
        assert changed.pop(grid.current) == (1 if key == "plus" else -1)
        assert sum(changed.values()) == (-1 if key == "plus" else 1)
        assert area(session) == whole
        session.app.action_act("pane-sizes")
        await session.settle()
        assert grid.areas == before


async def test_the_first_column_gets_wider_and_its_width_is_kept(opened: Open) -> None:
    async with opened(120, 40) as session:
        grid = session.app.grid
        await session.press("escape")
        before = grid.areas["map"].width
        await session.press("p", "w", "p", "w")
        assert grid.areas["map"].width == before + 4
        await session.press("tab", "p", "w")
        assert grid.areas["map"].width == before + 2, "the pane on the right takes them back"
        await session.press("3", "1")
        assert grid.areas["map"].width == before + 2
        kept = LayoutState.of(grid.workspace, grid.arrangements, session.app.state, ())
    async with opened(120, 40, user=UserState(kept=kept)) as session:
        assert session.app.grid.areas["map"].width == before + 2


async def test_borders_are_dragged(opened: Open) -> None:
    async with opened(120, 40) as session:
        grid, pilot = session.app.grid, session.pilot
        before = dict(grid.areas)
        lower = before["attention"]
        await pilot.mouse_down("#grid", offset=(lower.x + 44, lower.y))
        await pilot.hover("#grid", offset=(lower.x + 44, lower.y + 3))
        await pilot.mouse_up("#grid", offset=(lower.x + 44, lower.y + 3))
        await session.settle()
        assert grid.areas["attention"].y == lower.y + 3
        assert grid.areas["next-token"].height == before["next-token"].height + 3
        assert grid.areas["mlp"] == before["mlp"]
        await pilot.mouse_down("#grid", offset=(lower.x, 2))
        await pilot.hover("#grid", offset=(lower.x - 6, 2))
        await pilot.mouse_up("#grid", offset=(lower.x - 6, 2))
        await session.settle()
        assert grid.areas["map"].width == before["map"].width - 6
        await pilot.hover("#grid", offset=(30, 2))
        assert grid.areas["map"].width == before["map"].width - 6, "it was let go"
