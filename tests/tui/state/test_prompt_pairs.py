"""Pairs to begin with: they ship, they are offered where there is no B, and one key takes them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from llmscope.draw import RenderOptions
from llmscope.support import package_data
from llmscope.support.package_data import SORT, TOWN
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.features.edits.dialog import EditScreen
from llmscope.tui.panes.pairs import paint_pairs
from llmscope.tui.state.prompt_pairs import pair_folder, pairs, pairs_for
from tests.tui.conftest import Open, Session

TITLES = (
    "bank of a river and of money",
    "garden path: a comma that is not there",
    "interest on a loan and in a book",
)


def asked(session: Session) -> tuple[str, str | None, tuple[str, str] | None]:
    request = session.engine.requests[-1]
    return request.text, request.versus_prompt, request.words


def test_they_are_those_of_the_files_and_reach_the_wheel() -> None:
    root = Path(__file__).parents[3]
    kept, found = root / "demo" / "pairs", pair_folder()
    assert {file.name: file.read_bytes() for file in found.glob("*.toml")} == {
        file.name: file.read_bytes() for file in kept.glob("*.toml")
    }
    assert tuple(pair.title for pair in pairs_for("gpt2")) == TITLES
    (letters,) = pairs_for(SORT)
    assert set(letters.a + letters.b) <= set("ABC")
    assert {len(pairs_for(spec)) for spec in (TOWN, f"{TOWN}-dpo")} == {2}
    assert len(pairs()) == 6
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["force-include"]["demo/pairs"] == "llmscope/_pairs"


def test_an_installed_package_has_them_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        package_data, "__file__", str(tmp_path / "llmscope" / "support" / "shipped.py")
    )
    (tmp_path / "llmscope" / "_pairs").mkdir(parents=True)
    assert pair_folder() == tmp_path / "llmscope" / "_pairs"


def test_the_chosen_one_is_in_sight_however_low_the_pane_is() -> None:
    for height in (1, 2, 3, 5, 40):
        for chosen in range(3):
            painting = paint_pairs(pairs_for(""), chosen, 30, height, RenderOptions(), str)
            rows = ["".join(part.text for part in row) for row in painting.rows]
            assert len(rows) == height
            assert {len(row) for row in rows} == {30}
            (marked,) = [y for y, row in enumerate(rows) if "▸" in row]
            assert painting.down[marked] == ("pair", chosen)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_compare_offers_them_where_there_is_no_b(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        await session.press("escape", "0", "b")
        text = session.screen_text()
        assert all(title in text for title in TITLES)
        assert f"▸ {TITLES[0]}" in text
        await session.press("down", "down", "down", "up")
        assert f"▸ {TITLES[1]}" in session.screen_text()
        await session.press("enter")
        pair = pairs_for("")[1]
        assert asked(session) == (pair.a, pair.b, pair.words)
        assert session.app.editor.text == pair.a
        assert session.app.prompts.b.text == pair.b
        assert session.app.focused is session.app.grid.pane
        assert not any(title in session.screen_text() for title in TITLES)


async def test_a_click_chooses_one(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "0", "b")
        pane = session.app.grid.panes["contrast"]
        rows = session.screen_text().split("\n")
        row = next(y for y, text in enumerate(rows) if TITLES[2] in text)
        x = rows[row].index(TITLES[2])
        await session.pilot.click(pane, offset=(x - pane.region.x, row - pane.region.y))
        await session.settle()
        assert f"▸ {TITLES[2]}" in session.screen_text()


async def test_the_palette_has_them_from_anywhere(opened: Open) -> None:
    async with opened() as session:
        action = BY_NAME["pair-bank"]
        assert action.full_title == "compare: bank of a river and of money"
        action.run(session.app)
        await session.settle()
        bank = next(pair for pair in pairs() if pair.name == "bank")
        assert asked(session) == (bank.a, bank.b, bank.words)
        assert session.app.grid.workspace.name == "compare"
        token = session.app.state.token
        assert token is not None
        assert token.text == " bank"
        action.run(session.app)  # once more: nothing to change, and nothing breaks
        await session.settle()
        assert asked(session) == (bank.a, bank.b, bank.words)


async def test_the_sorter_gets_letters(opened: Open) -> None:
    async with opened(prompt="ABC", spec=SORT) as session:
        await session.press("escape", "0", "b")
        assert "six letters" in session.screen_text()
        BY_NAME["pair-bank"].run(session.app)
        await session.settle()
        assert asked(session) == ("ABC", None, None)
        notices = [notice.message for notice in session.app._notifications]
        assert any("nothing that builtin:sort could read" in notice for notice in notices)
        await session.press("enter")
        assert asked(session)[:2] == ("CABACB", "CABBCB")


async def test_enter_goes_into_an_edit_and_space_switches_it(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "x", "4")
        session.app.grid.enter("edits")
        await session.press("space")
        assert session.engine.requests[-1].edits == ()
        await session.press("space")
        assert len(session.engine.requests[-1].edits) == 1
        await session.press("enter")
        assert isinstance(session.app.screen, EditScreen)
