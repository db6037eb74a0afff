"""The tab bar: named at every width, and the way from the prompt to any workspace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.state.workspaces import FIRST, KEYS, WORKSPACES
from llmscope.tui.widgets.tab_bar import MORE, fit_tabs
from tests.tui.conftest import Open, Session

KEYED = [
    (one, f"workspace-{one.name}", key)
    for one, key in zip(WORKSPACES, "1234567890UHIJKLM", strict=False)
]


def bar(session: Session) -> str:
    return session.screen_text().split("\n")[session.app.tabs.region.y]


@given(st.integers(1, 250), st.sampled_from(WORKSPACES))
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


@given(st.integers(20, 250), st.sampled_from(WORKSPACES))
def test_the_current_name_is_whole_and_the_others_begin_readable_words(width, current):
    tabs, _, _ = fit_tabs(KEYED, current.name, width)
    titles = {action: one.title for one, action, _ in KEYED}
    for tab in tabs:
        _, _, name = tab.text.partition(" ")
        title = titles[tab.action]
        assert title.startswith(name)
        assert name == title or (len(name) >= 4 and not tab.here)


@pytest.mark.parametrize("current", WORKSPACES, ids=lambda one: one.name)
def test_names_are_cut_short_only_where_that_brings_more_tabs(current):
    # Nine cells a tab: more of them than there are digits are open at once only by hand.
    tabs, _, left_out = fit_tabs(KEYED, current.name, 9 * len(WORKSPACES) + 1)
    assert (len(tabs), left_out) == (len(WORKSPACES), (False, False))
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
        said = [notice.message for notice in session.app._notifications]
        assert "Compare is tab 6 now" in said
        await session.press("b", "k")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST]
        await session.press("0", "n")
        assert "▸6 Neurons" in bar(session)
        await session.press("b", "k", "1")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST, "neurons", "compare"]
        said = [notice.message for notice in session.app._notifications]
        assert sum("Compare is tab" in message for message in said) == 1
        await session.press("6", "0", "x")
        assert [tab.name for tab in session.app.grid.tabs] == [*FIRST, "compare"]
        assert session.app.grid.workspace.name == "overview"
        await session.press("9")
        assert "there are 6 tabs: 0 lists all" in [
            notice.message for notice in session.app._notifications
        ]


async def test_a_very_low_terminal_gives_the_line_to_the_panes(opened: Open) -> None:
    async with opened(40, 10) as session:
        assert not session.app.tabs.display or session.app.tabs.region.height == 0
    async with opened(40, 11) as session:
        assert session.app.tabs.region.height == 1
