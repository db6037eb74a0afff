"""The tour, and its offer at the first start."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.geometry import Region, Size

from llmscope.draw import RenderOptions, load_theme
from llmscope.tui.actions.keymap import keymap_from
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.dialogs.tour import PANE, STOPS, TourScreen, beside, places
from llmscope.tui.session.state_file import read_state
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.workspaces import BY_NAME as WORKSPACE
from llmscope.tui.user_state import UserState
from tests.stored import save, saved_layout
from tests.tui.conftest import PROMPT, Open, Session

EVERYWHERE = ["words", PANE, PANE, PANE, "tabs", "model", "model", "prompt", PANE, "keys"]
SHOWN = {
    (40, 10): ["prompt", "next-token", *EVERYWHERE],
    (80, 24): ["prompt", "map", "next-token", *EVERYWHERE],
    (120, 40): ["prompt", "map", "next-token", "attention", "mlp", *EVERYWHERE],
}


def said(session: Session) -> str:
    return " ".join(str(session.app.screen.query_one("#tour").render()).split())


@pytest.mark.few(1)
@pytest.mark.parametrize("size", SHOWN)
async def test_each_card_points_at_what_is_on_screen(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        app = session.app
        before = (app.grid.workspace, app.grid.current, app.grid.on_screen, app.focused)
        app.action_act("tour")
        await session.settle()
        stops = [stop for stop in STOPS if stop.place in SHOWN[size]]
        assert [stop.place for stop in stops] == SHOWN[size]
        visited = set()
        for number, stop in enumerate(stops, start=1):
            text = session.screen_text()
            assert stop.title in text
            assert f"{number} of {len(stops)}" in text
            assert app.grid.workspace.name == stop.workspace
            visited.add(stop.workspace)
            corner = places(app)[stop.place].region.offset
            pointer = text.split("\n")[corner.y][corner.x : corner.x + 3]
            card = app.screen.query_one("#tour").region
            assert pointer == " ▸ " or card.contains_point(corner)
            assert app.screen.region.contains_region(card)
            assert "{" not in said(session)
            await session.press("x")
        assert visited == {"overview", "heads", "answer", "what-if"}
        assert len(app.screen_stack) == 1
        assert app.text == PROMPT
        assert (app.grid.workspace, app.grid.current, app.grid.on_screen, app.focused) == before


async def test_the_tour_names_models_generation_and_saving() -> None:
    told = " ".join(stop.text for stop in STOPS)
    for action in ("models", "write-token", "write-on", "save", "copy", "edit-zero", "help"):
        assert f"{{{action}}}" in told
    assert {f"workspace-{name}" for name in WORKSPACE} <= set(BY_NAME)
    assert all(f"{{workspace-{name}}}" in told for name in WORKSPACE)


async def test_the_tour_goes_back_and_forth_between_workspaces(opened: Open) -> None:
    async with opened(80, 24) as session:
        app = session.app
        await session.press("escape", "2")
        app.action_act("tour")
        await session.press(*["x"] * 5)
        assert app.grid.workspace.name == "answer"
        await session.press("left", "backspace")
        assert app.grid.workspace.name == "overview"
        assert "4 of 13" in session.screen_text()
        await session.press(*["up"] * 9)
        assert "1 of 13" in session.screen_text()
        await session.press("x", "escape")
        assert app.grid.workspace.name == "heads"


async def test_without_figures_the_tour_explains_what_is_there(opened: Open) -> None:
    async with opened(prompt="") as session:
        session.app.action_act("tour")
        await session.settle()
        assert "1 of 7" in session.screen_text()
        await session.press(*["x"] * 7)
        assert len(session.app.screen_stack) == 1


async def test_the_first_card_says_how_to_get_out_of_the_prompt(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("tour")
        await session.settle()
        assert "esc leads to the figures, e back" in said(session)


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
        assert "n shows another view" in said(session)


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


SIZES = [(30, 8), (40, 10), (80, 24), (120, 40), (200, 60)]


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    return tmp_path


@pytest.mark.few(2)
@pytest.mark.parametrize("size", SIZES)
async def test_a_newcomer_sees_the_offer_and_can_just_type(
    opened: Open, stored: Path, size: tuple[int, int]
) -> None:
    async with opened(*size, user=UserState(newcomer=True)) as session:
        assert session.app.tour_offer is not None
        row = session.screen_text().split("\n")[session.app.tour_offer.region.y]
        assert "New" in row
        assert "F1 F1" in row
        assert "F1 esc" in row
        assert session.app.focused is session.app.editor
        await session.press("space", "P", "a")
        assert session.app.text == f"{PROMPT} Pa"
        assert "F1 F1" in session.screen_text(), "it waits for an answer"


@pytest.mark.parametrize("tier", ["truecolor", "none"])
async def test_the_offer_stands_out_in_every_tier(opened: Open, stored: Path, tier: str) -> None:
    look = RenderOptions(load_theme("dark"), tier)  # type: ignore[arg-type]
    async with opened(user=UserState(newcomer=True), look=look) as session:
        offer = session.app.tour_offer
        assert offer is not None
        style = offer.rich_style
        assert style.reverse or style.bgcolor != session.app.editor.rich_style.bgcolor
        assert style.bold


async def test_a_screen_of_six_rows_is_left_to_the_figures(opened: Open, stored: Path) -> None:
    async with opened(30, 6, user=UserState(newcomer=True)) as session:
        assert "F8" not in session.screen_text()


async def test_who_is_no_newcomer_sees_no_offer(opened: Open) -> None:
    async with opened() as session:
        assert session.app.tour_offer is None
        assert "New" not in session.screen_text().replace("·New", "")
        session.app.action_act("tour-hide")
        await session.settle()
        assert {one.message for one in session.app._notifications} == {
            "nothing to hide: the tour is in the help, ?"
        }


@pytest.mark.parametrize(("keys", "screens"), [(("f1", "f1"), 2), (("f1", "escape"), 1)])
async def test_one_key_takes_the_tour_another_hides_the_offer_both_for_good(
    opened: Open, stored: Path, keys: tuple[str, str], screens: int
) -> None:
    async with opened(user=UserState(newcomer=True)) as session:
        app = session.app
        await session.press(*keys)
        await session.settle()
        assert len(app.screen_stack) == screens
        assert app.tour_offer is not None
        assert not app.tour_offer.display
        assert "tour" in read_state().parts
        await session.press("escape")
        assert len(app.screen_stack) == 1
        assert app.text == PROMPT


@pytest.mark.parametrize(("words", "screens"), [("tour", 2), ("hides", 1)])
async def test_a_click_on_the_offer_does_what_its_key_does(
    opened: Open, stored: Path, words: str, screens: int
) -> None:
    async with opened(user=UserState(newcomer=True)) as session:
        offer = session.app.tour_offer
        assert offer is not None
        row = session.screen_text().split("\n")[offer.region.y]
        await session.pilot.click(offer, offset=(row.index(words), 0))
        await session.settle()
        await session.settle()
        assert len(session.app.screen_stack) == screens
        assert not offer.display


def test_whoever_was_here_once_is_no_newcomer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    assert saved_layout() is None
    save("layout", LayoutState())
    assert saved_layout() is not None


async def test_a_place_that_is_hidden_meanwhile_has_no_pointer(opened: Open) -> None:
    """The prompt may become empty, which hides all panes, while the tour explains one of them."""
    async with opened() as session:
        app = session.app
        app.action_act("tour")
        await session.settle()
        stops = [stop for stop in STOPS if stop.place in SHOWN[120, 40]]
        app.editor.replace_all("")
        await session.settle()
        assert not app.grid.display
        for stop in stops[1:]:
            await session.press("x")
            assert stop.title in session.screen_text()
            pointed = stop.place not in ("map", "next-token", "attention", "mlp", PANE)
            assert app.screen.query_one("#tour-pointer").display == pointed
            assert app.screen.region.contains_region(app.screen.query_one("#tour").region)
        await session.press("x")
        assert len(app.screen_stack) == 1
        assert app._exception is None
