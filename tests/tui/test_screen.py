"""The screen at work: what is asked, where the cursor goes, what stays."""

from __future__ import annotations

import pytest
from textual.events import Key

from llmscope.engine.events import Frame, Loaded, PassInfo
from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.engine_client import EngineSays
from tests.tui.acting import INFO, tokenize
from tests.tui.conftest import PROMPT, Open

SIZES = {
    (40, 10): ["next-token"],
    (80, 24): ["map", "next-token"],
    (120, 40): ["map", "next-token", "attention", "mlp"],
    (200, 60): ["map", "next-token", "attention", "mlp", "tokens"],
}


@pytest.mark.parametrize("size", SIZES)
async def test_asks_for_what_is_on_screen_and_nothing_else(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        shown = SIZES[size]
        assert list(session.app.grid.on_screen) == shown
        assert sorted(session.wanted()) == sorted({*shown, "tokens"})
        for key in shown:
            pane = session.app.grid.panes[key]
            assert pane.shown is not None
            assert pane.size.area > 0
        hidden = set(session.app.grid.panes) - set(shown)
        assert all(not session.app.grid.panes[key].display for key in hidden)


@pytest.mark.parametrize("size", SIZES)
async def test_every_row_is_filled(opened: Open, size: tuple[int, int]) -> None:
    async with opened(*size) as session:
        rows = session.screen_text().split("\n")
        assert len(rows) == size[1]
        assert "SmolLM2" in rows[0]
        assert "·is" in session.screen_text()
        assert "layer 29, ‹·is›" in rows[-2]
        assert "quit" in rows[-1]


async def test_the_focused_pane_is_asked_first(opened: Open) -> None:
    async with opened() as session:
        session.app.grid.enter("mlp")
        await session.settle()
        await session.press("g", "k")
        assert session.wanted()[0] == "mlp"


async def test_resizing_keeps_everything(opened: Open) -> None:
    async with opened(focus=None) as session:
        await session.press("escape", "up", "left", "right_square_bracket")
        state = session.app.state
        for size in ((40, 10), (200, 60), (80, 24), (60, 15), (10, 3), (120, 40)):
            await session.pilot.resize_terminal(*size)
            await session.settle()
        assert session.app.state == state
        assert session.app.editor.text == PROMPT
        assert list(session.app.grid.on_screen) == SIZES[120, 40]


async def test_a_small_screen_shows_one_detail_and_tab_changes_it(opened: Open) -> None:
    async with opened(80, 24) as session:
        await session.press("escape")
        seen = []
        for _ in range(5):
            seen.append(session.app.grid.on_screen[1])
            await session.press("tab")
        assert seen == ["next-token", "next-token", "attention", "mlp", "tokens"]
        assert session.app.grid.on_screen == ("map", "tokens")
        assert session.app.focused is session.app.grid.panes["map"]
        await session.press("shift+tab", "shift+tab")
        assert session.app.grid.on_screen == ("map", "mlp")
        assert sorted(session.wanted()) == ["map", "mlp", "tokens"]


async def test_maximizing_asks_for_one_pane_and_comes_back(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "tab", "p", "m")
        assert session.app.grid.on_screen == ("next-token",)
        assert sorted(session.wanted()) == ["next-token", "tokens"]
        pane = session.app.grid.panes["next-token"]
        assert pane.outer_size.width == 120
        await session.press("tab")
        assert session.app.grid.on_screen == ("attention",)
        await session.press("p", "m")
        assert list(session.app.grid.on_screen) == SIZES[120, 40]


async def test_the_cursor_is_one_for_all_panes(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "up", "up", "left", "right_square_bracket")
        focus = session.app.state.focus
        assert (focus.layer, focus.head, focus.position) == (27, 1, 3)
        wants = {want.key: want.focus for want in session.engine.requests[-1].wants}
        assert (wants["attention"].layer, wants["attention"].head) == (27, 1)
        assert (wants["mlp"].layer, wants["mlp"].position) == (27, 3)
        assert wants["next-token"].position == 3
        assert "layer 27, ‹·France›" in session.app.status.text
        assert session.app.grid.panes["attention"].border_title is not None
        assert "layer 27 head 1" in session.app.grid.panes["attention"].border_title


async def test_moving_does_not_ask_for_a_view_of_all_tokens_anew(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "d", "d", "d", "d", "d", "d")
        before = next(want for want in session.engine.requests[-1].wants if want.key == "map")
        assert before.focus.mode == "stream"
        await session.press("up", "left")
        after = next(want for want in session.engine.requests[-1].wants if want.key == "map")
        assert before == after


async def test_the_map_turns_and_attention_changes_its_mode(opened: Open) -> None:
    async with opened() as session:
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert (wants["map"].lens, wants["map"].focus.mode) == ("logit-lens", "top")
        assert "Map · logit lens" in session.screen_text()
        await session.press("escape", "d", "d")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert (wants["map"].lens, wants["map"].focus.mode) == ("logit-lens", "target")
        assert "Map · probability of ‹" in session.screen_text()
        await session.press("d", "a")
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["attention"].focus.mode == "mean"
        assert "mean of 9 heads" in session.screen_text()


async def test_typing_is_asked_letter_by_letter_and_followed(opened: Open) -> None:
    async with opened() as session:
        first = len(session.engine.requests)
        await session.press("space", "P", "a")
        texts = [request.text for request in session.engine.requests[first:]]
        assert texts[-1] == PROMPT + " Pa"
        assert texts == sorted(texts)
        assert session.app.state.focus.position == 5
        assert "‹·Pa›" in session.app.status.text


async def test_a_put_cursor_stays_while_one_types(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "home", "e", "space", "P")
        assert session.app.state.focus.position == 0
        assert "‹The›" in session.app.status.text


async def test_walking_in_the_prompt_moves_the_cursor(opened: Open) -> None:
    async with opened() as session:
        await session.press("home")
        assert session.app.state.focus.position == 0
        await session.press("end")
        assert session.app.state.following


async def test_undo_brings_the_prompt_back(opened: Open) -> None:
    async with opened() as session:
        await session.press("ctrl+u")
        assert session.app.text == ""
        await session.press("ctrl+z")
        assert session.app.text == PROMPT
        assert session.engine.requests[-1].text == PROMPT


async def test_candidates_are_chosen_and_pinned(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "tab", "down", "down")
        assert session.app.state.target == 27
        assert "‹·London› is number 3" in session.app.status.text
        await session.press("t", "t", "left")
        assert session.app.state.target == 27
        wants = {want.key: want for want in session.engine.requests[-1].wants}
        assert wants["next-token"].focus.target == 27
        await session.press("t", "t")
        assert session.app.state.target is None


async def test_neurons_are_chosen(opened: Open) -> None:
    async with opened() as session:
        session.app.grid.enter("mlp")
        await session.settle()
        await session.press("down", "down")
        assert f"neuron {session.app.state.focus.neuron} at" in session.app.status.text


async def test_find_moves_to_the_token(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "slash", *"fran")
        assert session.app.state.focus.position == 3
        await session.press("enter")
        assert session.app.status.display
        assert session.app.focused is session.app.grid.panes["map"]


async def test_find_says_when_no_token_has_it(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "slash", *"fran")
        find = session.app.find
        usual_style = find.rich_style
        await session.press("q")
        assert find.rich_style != usual_style
        assert session.app.state.focus.position == 3
        await session.press("enter")
        assert session.app.messages[-1].message == "no token has ‹franq›"
        await session.press("slash")
        assert find.rich_style == usual_style


@pytest.mark.parametrize(("key", "line"), [("slash", "find"), ("e", "editor")])
async def test_what_is_typed_ahead_is_not_lost(opened: Open, key: str, line: str) -> None:
    async with opened() as session:
        await session.press("escape")
        session.app.post_message(Key(key, None))
        for letter in "qv":
            session.app.post_message(Key(letter, letter))
        await session.settle()
        await session.settle()
        typed = session.app.find.value if line == "find" else session.app.text
        assert typed.endswith("qv")
        assert session.app.is_running
        assert session.app.state.view == 0


async def test_copies_the_line_in_words(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "y", "y")
        assert session.app.clipboard == session.app.status.text
        assert session.app.clipboard.startswith("layer 29, ‹·is›: ")


async def test_a_click_puts_the_cursor(opened: Open) -> None:
    async with opened() as session:
        pane = session.app.grid.panes["map"]
        painting = pane._painting
        row = next(y for y, (_, index) in painting.down.items() if index == 5)
        column = next(x for x, (_, index) in painting.across.items() if index == 2)
        await session.pilot.click(pane, offset=(column + 2, row + 1))
        await session.settle()
        label = pane.shown.figure.axes[0].labels[5] if pane.shown else ""
        assert session.app.state.focus.layer == int(label)
        assert session.app.state.focus.position == 2
        assert session.app.focused is pane


async def test_a_double_click_maximizes_and_the_wheel_moves_layers(opened: Open) -> None:
    async with opened() as session:
        pane = session.app.grid.panes["map"]
        await session.pilot.click(pane, offset=(20, 3), times=2)
        await session.settle()
        assert session.app.grid.on_screen == ("map",)
        layer = session.app.state.focus.layer
        await session.pilot._post_mouse_events([_wheel()], widget=pane, offset=(20, 3))
        await session.settle()
        assert session.app.state.focus.layer == layer - 1


def _wheel() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


async def test_a_click_on_a_key_does_what_the_key_does(opened: Open) -> None:
    async with opened(200, 60) as session:
        await session.press("escape")
        row = session.screen_text().split("\n")[-1]
        await session.pilot.click(session.app.key_line, offset=(row.index("d view"), 0))
        await session.settle()
        assert isinstance(session.app.screen, MenuScreen)
        await session.press("2")
        assert session.app.state.view == 1


async def test_a_slow_pass_marks_the_old_picture_and_a_slower_one_dims_it(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The test says when time has passed.
    monkeypatch.setattr("llmscope.tui.request_scheduler.PATIENCE", 600)
    monkeypatch.setattr("llmscope.tui.request_scheduler.FADING", 1200)
    async with opened(auto=False) as session:
        overdue = session.app.requests._is_overdue
        session.engine.load()
        await session.settle()
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        pane = session.app.grid.panes["map"]
        await session.press("space")
        assert pane.shown is not None
        assert not pane.stale
        overdue()
        await session.settle()
        assert pane.stale
        assert not pane.dim
        assert "running" in session.screen_text().split("\n")[0]
        assert len(pane.shown.tokens) == 5
        overdue()
        await session.settle()
        assert pane.dim
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert not pane.stale
        assert not pane.dim
        assert "running" not in session.screen_text()


def test_frames_that_wait_give_way_to_newer_ones() -> None:
    cost, tokens = PassInfo(1, 0, 1.0, 1), tokenize(PROMPT)
    older, newer = (EngineSays(Frame(serial, tokens, {}, cost)) for serial in (1, 2))
    same = EngineSays(Frame(1, tokens, {}, cost))
    assert older.can_replace(newer)
    assert not older.can_replace(same), "the parts of one request add up"
    assert not newer.can_replace(older)
    assert not older.can_replace(EngineSays(Loaded(INFO)))


async def test_an_answer_that_comes_while_the_app_closes_is_dropped(opened: Open) -> None:
    async with opened() as session:
        app, before = session.app, session.app.state
        stacks, app._screen_stacks = app._screen_stacks, {app._current_mode: []}
        try:
            app._engine_says(EngineSays(Loaded(INFO)))
        finally:
            app._screen_stacks = stacks
        assert app.state is before
