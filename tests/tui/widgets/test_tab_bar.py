"""The tab bar: named at every width, and the way from the prompt to any workspace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.state.workspaces import FIRST, KEYS, PANES, WORKSPACES
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.tab_bar import MORE, fit_tabs
from tests.tui.conftest import Open, Session

TABBED = [workspace for workspace in WORKSPACES if not workspace.within]
KEYED = [
    (workspace, f"workspace-{workspace.name}", key)
    for workspace, key in zip(TABBED, "1234567890UHIJ", strict=False)
]


def bar(session: Session) -> str:
    return session.screen_text().split("\n")[session.app.tabs.region.y]


@given(st.integers(1, 250), st.sampled_from(TABBED))
def test_tabs_fit_keep_their_order_and_never_are_bare_keys(width, current):
    tabs, gap, (before, after) = fit_tabs(KEYED, current.name, width)
    marks = (len(MORE) + 1) * (before + after)
    length = sum(cell_len(tab.text) + gap for tab in tabs) - gap + marks
    assert length <= width or len(tabs) == 1
    names = [tab.action for tab in tabs]
    everyone = [action for _, action, _ in KEYED]
    first = everyone.index(names[0])
    assert names == everyone[first : first + len(names)]
    assert (before, after) == (first > 0, first + len(names) < len(everyone))
    assert [tab.action for tab in tabs if tab.here] == [f"workspace-{current.name}"]
    for tab in tabs:
        _, _, name = tab.text.partition(" ")
        assert len(name) >= 2


@given(st.integers(20, 250), st.sampled_from(TABBED))
def test_the_current_name_is_whole_and_the_others_begin_readable_words(width, current):
    tabs, _, _ = fit_tabs(KEYED, current.name, width)
    titles = {action: one.title for one, action, _ in KEYED}
    for tab in tabs:
        _, _, name = tab.text.partition(" ")
        title = titles[tab.action]
        assert title.startswith(name)
        assert name == title or (len(name) >= 4 and not tab.here)


@pytest.mark.parametrize("current", TABBED, ids=lambda one: one.name)
def test_names_are_cut_short_only_where_that_brings_more_tabs(current):
    # Ten cells a tab: more of them than there are digits are open at once only by hand.
    tabs, _, left_out = fit_tabs(KEYED, current.name, 10 * len(TABBED) + 1)
    assert (len(tabs), left_out) == (len(TABBED), (False, False))
    tabs, _, left_out = fit_tabs(KEYED, current.name, 78)
    assert len(tabs) >= 7
    assert any(left_out)
    assert {"Hds", "Wlk", "Cmp", "Stg", "Fea", "Rsn", "Ctx"}.isdisjoint(
        tab.text.split(" ", 1)[1] for tab in tabs
    )


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
async def test_the_tab_is_that_of_the_workspace_on_screen(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        assert "▸  Overview " in bar(session)
        assert not any(letter.isdecimal() for letter in bar(session)), "a digit is text there"
        await session.press("escape")
        for one in WORKSPACES:
            await session.press(*KEYS[one.name].split())
            assert bar(session).count("▸") == 1
            at = [tab.name for tab in session.app.grid.tabs].index(one.name) + 1
            assert f"▸{at if at < 10 else ''} {one.title}".replace("▸ ", "▸") in bar(session)


async def test_a_key_in_the_prompt_shows_the_next_workspace_and_typing_goes_on(
    opened: Open,
) -> None:
    async with opened(80, 24) as session:
        await session.press("escape", "p", "t", "e", "!")
        assert session.app.grid.workspace.name == "heads"
        assert session.app.focused is session.app.editor
        assert session.app.text.endswith("!")
        await session.press("escape", *["p", "t"] * (len(session.app.grid.tabs) - 1))
        assert session.app.grid.workspace.name == "overview"


async def test_jump_leads_from_the_prompt_to_a_tab(opened: Open) -> None:
    async with opened(80, 24) as session:
        session.app.action_act("jump")
        await session.settle()
        assert " 4 " in bar(session)
        await session.press("3")
        assert session.app.grid.workspace.name == "answer"
        assert session.app.focused is session.app.grid.panes["attribution"]


@pytest.mark.parametrize("size", [(40, 12), (80, 24), (200, 60)])
async def test_a_click_shows_the_workspace(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        start, _, action = session.app.tabs.spans[2]
        await session.pilot.click("#tabs", offset=(start + 2, 0))
        await session.settle()
        assert action == "tab-3"
        assert session.app.grid.workspace.name == "answer"
        assert session.app.focused is session.app.editor, "a prompt that has the focus keeps it"
        assert "▸  Answer" in bar(session)


async def test_a_click_on_the_mark_lists_all_workspaces(opened: Open) -> None:
    async with opened(80, 24) as session:
        row = bar(session)
        assert "Stages" not in row
        await session.pilot.click("#tabs", offset=(row.rindex(MORE), 0))
        await session.settle()
        assert isinstance(session.app.screen, MenuScreen)
        await session.press("s")
        assert session.app.grid.workspace.name == "stages"
        assert "▸  Stages" in bar(session)


async def test_a_tab_comes_with_its_subject_and_goes_with_it_unless_it_was_opened(
    opened: Open,
) -> None:
    async with opened(120, 40) as session:
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST]
        await session.press("escape", "b", "k")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST, "compare"]
        said = [notice.message for notice in session.app.messages]
        assert "A and B is tab 6 now" in said
        await session.press("b", "k")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST]
        await session.press("0", "k")
        assert "▸6 Walkthrough" in bar(session)
        await session.press("b", "k", "1")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST, "walkthrough", "compare"]
        said = [notice.message for notice in session.app.messages]
        assert sum("A and B is tab" in message for message in said) == 1
        await session.press("6", "0", "x")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST, "compare"]
        assert session.app.grid.workspace.name == "overview"
        await session.press("9")
        assert "there are 6 tabs: 0 lists all" in [
            notice.message for notice in session.app.messages
        ]


async def test_a_digit_again_turns_a_tab_that_several_share(opened: Open) -> None:
    async with opened(120, 40) as session:
        grid = session.app.grid
        await session.press("escape", "3", "3")
        assert "▸3 Answer: neurons" in bar(session)
        assert (grid.workspace.name, session.app.focused) == ("neurons", grid.panes["mlp"])
        await session.press("1", "3")
        assert grid.workspace.name == "neurons", "as it was left"
        await session.press("3")
        assert "▸3 Answer  " in bar(session)
        await session.press("d", "t")
        assert grid.workspace.name == "neurons", "by the menu of views, too"
        await session.press("0", "a", "0", "x")
        assert grid.workspace.name == "answer"
        await session.press("2", "2")
        assert grid.workspace.name == "heads", "nothing shares its tab"
        await session.press("5", "5")
        assert grid.workspace.name == "reader", "there is no chain of thought, and no passage"
        await session.press("e", *"<think>", "escape")
        said = [notice.message for notice in session.app.messages]
        assert said[-1] == "tab 5 shows Text: reasoning too: its digit turns it"
        await session.press("5")
        assert "▸5 Text: reasoning" in bar(session)
        await session.press("5")
        assert grid.workspace.name == "reader"


async def test_digits_and_the_menu_of_tabs_reach_every_pane(opened: Open) -> None:
    prompt = "[1] It is red.\n\n[2] It is blue.\n\nWhich is it?"
    async with opened(120, 40, prompt=prompt) as session:
        await session.press("escape", "b", "k")
        for tab in TABBED[::-1]:
            await session.press("0", tab.letter)
        seen: set[str] = set()
        grid = session.app.grid
        assert len(grid.tabs) == len(TABBED)
        for at in range(len(TABBED)):
            if at < 9:
                await session.press(str(at + 1))
            else:
                await session.press("p", "t")
            for _ in grid.shared_tab:
                seen |= set(grid.workspace.panes)
                session.app.action_act("tab-turn")
                await session.settle()
        assert seen == set(PANES)


async def test_an_old_session_opens_at_its_workspace_under_the_new_tabs(opened: Open) -> None:
    kept = LayoutState(workspace="models", tabs=("models", "neurons", "reasoning", "stages"))
    async with opened(120, 40, user=UserState(kept=kept)) as session:
        assert session.app.grid.workspace.name == "models"
        names = [tab.name for tab in session.app.grid.tabs]
        assert names == [*FIRST, "models", "stages"]
        await session.press("escape", "1", "6")
        assert session.app.grid.workspace.name == "models"


async def test_a_very_low_terminal_gives_the_line_to_the_panes(opened: Open) -> None:
    async with opened(40, 10) as session:
        assert not session.app.tabs.display or session.app.tabs.region.height == 0
    async with opened(40, 11) as session:
        assert session.app.tabs.region.height == 1
