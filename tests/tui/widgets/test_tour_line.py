"""The line of the tour: its offer at the first start, and its steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

import llmscope
from llmscope import Scope
from llmscope.draw import RenderOptions, load_theme
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.user_keymap import keymap_from
from llmscope.tui.session.state_file import read_state
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.tour_line import END, STEPS
from tests.stored import save, saved_layout
from tests.tui.conftest import PROMPT, Open, Session
from tests.tui.real import answered, screen


@pytest.fixture(scope="module")
def sort() -> Scope:
    return llmscope.load("builtin:sort")


def line(session: Session) -> str:
    """What the line of the tour says, as it stands on the screen."""
    assert session.app.tour_line is not None
    assert session.app.tour_line.display
    return session.screen_text().split("\n")[session.app.tour_line.region.y].strip()


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 12), (24, 9)])
async def test_the_tour_is_done_by_the_keys_that_it_names(
    size: tuple[int, int], sort: Scope
) -> None:
    async with screen(sort, "CABAC", size) as (app, pilot):
        assert app.tour_line is None

        async def says(*parts: str) -> None:
            await answered(app, pilot)
            assert app.tour_line is not None
            assert app.tour_line.display
            said = str(app.tour_line.render())
            assert cell_len(said) <= size[0] - 2
            for part in parts:
                assert part in said

        app.action_act("tour")
        await says("1/5")
        await pilot.press("B")
        await says("2/5", "esc", "3")
        await pilot.press("escape", "3")
        await says("3/5", "x")
        await pilot.press("down", "x")
        await says("4/5", "ctrl+z")
        assert app.state.in_force
        await pilot.press("ctrl+z")
        await says("5/5", "2")
        assert not app.state.in_force
        await pilot.press("2")
        await says("one", "?")
        assert app.text == "CABACB"
        await pilot.press("question_mark")
        await pilot.pause()
        assert app.tour_line is not None
        assert not app.tour_line.display


async def test_a_step_waits_for_its_key(opened: Open) -> None:
    async with opened() as session:
        session.app.action_act("tour")
        await session.press("escape", "2", "x", "1", "left")
        assert line(session).startswith("1/5 ")
        await session.press("e", "a")
        assert line(session).startswith("2/5 ")


async def test_the_tour_is_ended_by_a_click_or_by_its_command(opened: Open) -> None:
    async with opened() as session:
        for end in ("click", "command"):
            session.app.action_act("tour")
            await session.settle()
            assert line(session)
            if end == "click":
                await session.pilot.click(session.app.tour_line)
            else:
                session.app.action_act("tour-hide")
            await session.settle()
            assert not session.app.tour_line.display


async def test_a_screen_without_room_says_so(opened: Open) -> None:
    async with opened(30, 6) as session:
        session.app.action_act("tour")
        await session.settle()
        assert "the tour needs a terminal of 8 rows" in {
            notice.message for notice in session.app._notifications
        }


async def test_the_tour_names_a_persons_own_keys(opened: Open) -> None:
    keymap = keymap_from({"keys": {"tab-3": "f7"}})
    async with opened(user=UserState(keymap=keymap)) as session:
        session.app.action_act("tour")
        await session.press("a")
        assert "f7 asks who wrote the answer" in line(session).lower()


def test_the_keys_that_the_tour_names_are_actions() -> None:
    texts = [text for step in STEPS for text in (step.text, step.short)] + [*END]
    named = [part.split("}")[0] for text in texts for part in text.split("{")[1:]]
    assert named
    assert set(named) <= set(BY_NAME)


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
        assert session.app.tour_line is not None
        row = session.screen_text().split("\n")[session.app.tour_line.region.y]
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
        offer = session.app.tour_line
        assert offer is not None
        style = offer.rich_style
        assert style.reverse or style.bgcolor != session.app.editor.rich_style.bgcolor
        assert style.bold


async def test_a_screen_of_six_rows_is_left_to_the_figures(opened: Open, stored: Path) -> None:
    async with opened(30, 6, user=UserState(newcomer=True)) as session:
        assert "F1 F1" not in session.screen_text()


async def test_who_is_no_newcomer_sees_no_offer(opened: Open) -> None:
    async with opened() as session:
        assert session.app.tour_line is None
        assert "New" not in session.screen_text().replace("·New", "")
        session.app.action_act("tour-hide")
        await session.settle()
        assert {one.message for one in session.app._notifications} == {
            "nothing to hide: the tour is in the help, ?"
        }


@pytest.mark.parametrize(("keys", "taken"), [(("f1", "f1"), True), (("f1", "escape"), False)])
async def test_one_key_takes_the_tour_another_hides_the_offer_both_for_good(
    opened: Open, stored: Path, keys: tuple[str, str], taken: bool
) -> None:
    async with opened(user=UserState(newcomer=True)) as session:
        app = session.app
        await session.press(*keys)
        await session.settle()
        assert len(app.screen_stack) == 1
        assert app.tour_line is not None
        assert app.tour_line.display == taken
        assert "tour" in read_state().parts
        assert app.text == PROMPT


@pytest.mark.parametrize(("words", "taken"), [("tour", True), ("hides", False)])
async def test_a_click_on_the_offer_does_what_its_key_does(
    opened: Open, stored: Path, words: str, taken: bool
) -> None:
    async with opened(user=UserState(newcomer=True)) as session:
        offer = session.app.tour_line
        assert offer is not None
        row = session.screen_text().split("\n")[offer.region.y]
        await session.pilot.click(offer, offset=(row.index(words), 0))
        await session.settle()
        await session.settle()
        assert len(session.app.screen_stack) == 1
        assert offer.display == taken


def test_whoever_was_here_once_is_no_newcomer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSCOPE_STATE", str(tmp_path))
    assert saved_layout() is None
    save("layout", LayoutState())
    assert saved_layout() is not None
