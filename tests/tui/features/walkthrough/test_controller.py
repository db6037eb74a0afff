"""Walkthrough: among the numbers of a step, to what they are made of, by itself, and to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

import llmscope
from llmscope.figure import Focus
from llmscope.scope.scope import Scope
from llmscope.tui.dialogs.menu import MenuScreen
from llmscope.tui.features.copy.cursor_value import number
from llmscope.tui.features.walkthrough import controller
from llmscope.tui.features.walkthrough.sources import landing
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO
from tests.tui.real import answered
from tests.tui.walking import STORY, ticks, walk


@pytest.fixture(scope="module")
def sort() -> Scope:
    return llmscope.load("builtin:sort")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is taken by the clock: the tests take them."""
    monkeypatch.setattr(controller, "PACE", 3600.0)


async def test_the_arrows_walk_among_the_numbers_and_the_words_follow(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.to("scores")
        assert "score that" not in on.text(), "the table has the keys: the step is told"
        await on.press("tab")
        assert "score that ‹B› at 5 gives ‹B› at 5" in on.text()
        await on.press("left", "left", "h", "h", "up", "j")
        assert on.app.state.focus.cell == (5, 1)
        assert on.app.state.focus.position == 5, "the cursor of all panes stays"
        assert "score that ‹B› at 5 gives ‹A› at 1" in on.text()
        assert "= 0.25 · (query · key, added up)" in on.text()
        assert "the other 12 together" in on.text()
        assert "score that ‹B› at 5 gives ‹A› at 1" in on.app.status.text
        shown = on.app.figures.shown("walk-values")
        assert shown is not None
        assert number(shown.figure, on.app.state) == str(shown.figure.values[5, 1])
        await on.press("left", "left", "left")
        assert on.app.state.focus.cell == (5, 0), "the edge holds it"
        await on.press("shift+tab", "left")
        assert on.app.state.focus.cell is None, "another token has other numbers"


async def test_v_goes_round_the_weights_that_the_step_reads(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.to("up projection")
        await on.press("tab", "d", "d")
        assert on.app.state.focus.weight == 0
        pane = on.app.grid.panes["walk-values"]
        assert "Weight 1 of 2: c_fc.weight 48 × 192" in str(pane.border_title)
        await on.press(*["right"] * 3)
        assert on.app.state.focus.cell == (0, 3)
        assert "weight at row 0, column 3" in on.text()
        on.app.look_at(on.app.state.at_cell((40, 138)))
        await answered(on.app, on.pilot)
        await on.press("right", "right")
        shown = on.app.figures.shown("walk-values")
        assert on.app.state.focus.cell == (40, 140), "beyond the first window"
        assert shown is not None
        assert shown.figure.axes[1].labels[shown.figure.extra["seen"][1]] == "140"
        await on.press("d", "d")
        assert "Weight 2 of 2" in str(pane.border_title)
        assert on.app.state.focus.cell is None
        await on.press("g", "i")
        assert "learned" in on.told
        await on.press("d", "d")
        assert on.app.state.focus.weight is None
        await on.to("scores")
        await on.press("d", "d")
        assert on.told == "this step reads no weights"
        await on.to("query")
        await on.press("shift+tab", "d", "d")
        assert on.app.state.focus.weight == 0, "from the table as well"


@pytest.mark.slow
async def test_one_goes_to_the_very_numbers_and_comes_back(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.to("scores")
        await on.press("tab")
        on.app.look_at(on.app.state.at_cell((4, 1)))
        await answered(on.app, on.pilot)
        await on.pilot.press("g", "i")
        await on.pilot.pause()
        assert isinstance(on.app.screen, MenuScreen)
        assert "query: head 0, ‹C› at 4" in on.text()
        assert "key: head 0, ‹A› at 1" in on.text()
        await on.press("2")
        assert (on.name, on.app.state.focus.cell) == ("key", (1, 0))
        await on.pilot.press("g", "i")
        await on.pilot.pause()
        await on.press("2")
        assert (on.app.state.focus.weight, on.app.state.focus.cell) == (0, (0, 0))
        await on.press("g", "b", "g", "b")
        assert (on.name, on.app.state.focus.cell) == ("scores", (4, 1))
        await on.press("g", "b")
        assert "nothing to go back to" in on.told
        await on.pilot.press("g", "i")
        await on.pilot.pause()
        await on.press("enter")
        assert (on.name, on.app.state.focus.cell) == ("query", (4, 0)), "the first"
        await on.pilot.press("g", "i")
        await on.pilot.pause()
        await on.press("escape")
        assert on.name == "query"
        await on.to("pattern")
        on.app.look_at(on.app.state.at_cell((5, 3)))
        await answered(on.app, on.pilot)
        await on.press("g", "i")
        assert (on.name, on.app.state.focus.cell) == ("scores", (5, 3)), "the same pair"
        on.app.editor.insert("A", on.app.editor.document.end)
        await answered(on.app, on.pilot)
        await on.press("g", "b")
        assert "nothing to go back to" in on.told, "of another text nothing is left"


@pytest.mark.parametrize(
    ("head", "shared", "lands"),
    [(3, 1, 3), (2, 1, 2), (0, 1, 2), (3, 0, 0)],
)
def test_of_a_key_that_heads_share_the_head_stays_if_it_can(
    head: int, shared: int, lands: int
) -> None:
    state = ViewState(info=replace(INFO, heads=4), focus=Focus(head=head))
    axes = ["head", "position", "dimension"]
    read = {"axes": axes, "index": [shared, 3, [0, 16]]}
    cell = {"names": {"head": {}, "query": {}, "key": {}}, "index": [head, 5, 3]}
    assert landing(read, cell, state, (2, 11, 16)) == ((3, 0), lands)


async def test_of_the_answer_one_goes_to_its_own_probability(sort: Scope) -> None:
    async with walk(sort, "BBCCAB") as on:
        await on.to("next token")
        await on.press("tab", "g", "i")
        shown = on.app.figures.shown("walk-values")
        assert shown is not None
        assert (on.name, on.app.state.focus.cell) == ("probabilities", (0, 0))
        assert shown.figure.values[0].argmax() == 0
        await on.press("shift+tab", "g", "b")
        assert on.name == "next token"


async def test_a_click_puts_the_cursor_on_a_number(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.to("query")
        pane = on.app.grid.panes["walk-values"]
        for _ in range(2):  # first on the picture without a cursor, then on the one with it
            await on.pilot.click(pane, offset=(20, 3))
            await answered(on.app, on.pilot)
            cell = on.app.state.focus.cell
            assert cell is not None
            assert cell[0] == 1
            on.app.look_at(on.app.state.at_cell((5, 5)))
            await answered(on.app, on.pilot)
        await on.to("scores")
        await on.press("shift+tab")
        await on.pilot.click(pane, offset=(15, 4))
        await answered(on.app, on.pilot)
        assert on.app.state.focus.cell is not None
        assert on.app.state.focus.cell[0] == 2


async def test_steps_go_on_in_the_next_layer_and_back(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.press("g", "k")
        await on.to("final norm")
        await on.press("up")
        assert on.place == (1, "layer 2"), "a row that can be read"
        await on.press("up")
        assert on.place == (1, "residual add")
        await on.press("down")
        assert on.place == (2, "attention norm")
        await on.press("up")
        assert on.place == (1, "residual add")
        await on.to("attention norm")
        await on.press("up")
        assert on.place == (0, "residual add")
        await on.press("down", "up")
        assert on.place == (0, "residual add")
        await on.to("attention norm")
        await on.press("up")
        assert on.place == (0, "embedding")


@pytest.mark.slow
async def test_it_walks_through_all_layers_by_itself(sort: Scope, patient: None) -> None:
    async with walk(sort, size=(60, 16)) as on:
        await on.press("g", ">")
        assert [(None, "token embedding"), *await ticks(on, len(STORY) - 2)] == STORY[1:]
        assert await ticks(on, 1) == [STORY[-1]]
        await on.press("g", "<")
        assert [(None, "probabilities"), *await ticks(on, len(STORY) - 2)] == STORY[-2::-1]


@pytest.mark.slow
async def test_it_walks_from_layer_to_layer_by_itself_and_back(sort: Scope, patient: None) -> None:
    async with walk(sort, size=(60, 16)) as on:
        await on.to("position embedding")
        await on.press("g", ">")
        assert on.app.walkthrough.plays == 1
        assert on.place == (2, "embedding"), "the first step is taken at once"
        assert await ticks(on, 2) == [(0, "attention norm"), (0, "query")]
        await on.to("down projection")
        await on.press("g", ">")
        assert await ticks(on, 2) == [(1, "attention norm"), (1, "query")]
        await on.press("g", "<")
        assert await ticks(on, 2) == [(0, "residual add"), (0, "down projection")]
        await on.to("logits")
        await on.press("g", "<")
        assert await ticks(on, 2) == [(2, "residual add"), (2, "down projection")]
        await on.to("probabilities")
        await on.press("g", ">")
        assert await ticks(on, 1) == [(None, "next token")]
        assert on.app.walkthrough.plays == 0
        assert on.told == "‹A› comes next: w w writes it, and the walk begins again"
        await on.to("token embedding")
        await on.press("g", "<")
        assert on.app.walkthrough.plays == -1
        assert await ticks(on, 1) == [(None, "tokens")]
        assert on.told == "this is where it begins"
        assert on.app.walkthrough._timer is None


@pytest.mark.slow
@pytest.mark.parametrize("key", ["space", "down", "left", "tab", "question_mark", "1", "y"])
async def test_any_key_stops_it(sort: Scope, patient: None, key: str) -> None:
    async with walk(sort) as on:
        await on.press("g", ">")
        await on.pilot.press(key)
        await on.pilot.pause()
        assert on.app.walkthrough.plays == 0
        assert on.app.walkthrough._timer is None


async def test_the_other_direction_turns_it_and_a_click_stops_it(
    sort: Scope, patient: None
) -> None:
    async with walk(sort) as on:
        await on.to("embedding")
        await on.press("g", ">", "g", "<")
        assert on.app.walkthrough.plays == -1
        await on.pilot.click(on.app.grid.panes["walkthrough"], offset=(6, 12))
        await answered(on.app, on.pilot)
        place = on.place
        await ticks(on, 1)
        assert (on.place, on.app.walkthrough.plays) == (place, 0)


@pytest.mark.slow
async def test_from_six_letters_to_the_sorted_ones(sort: Scope, patient: None) -> None:
    async with walk(sort) as on:
        assert "This model reads 6 letters and writes them" in on.text()
        for letter, count in zip("AABBC", range(1, 6), strict=True):
            before = on.app.text
            await on.to("next token")
            assert "w w writes it after the prompt" in on.text()
            await on.press("w", "w")
            assert on.app.text == before + letter
            assert (on.name, on.app.state.focus.position) == ("tokens", 5 + count)
            assert f"It has written {count} of 6 letters" in on.text()
        await on.to("next token")
        assert "Done: it read C A B A C B" in on.text()
        assert "E writes it" not in on.text()
        await on.press("w", "w")
        done = "Done: it read C A B A C B, wrote A A B B C and says C: the same 6 letters in order."
        assert on.told == done
        assert on.app.text == "CABACBAABBC"
        await on.press("e")
        for expected in ("CABACBAABB", "CABACBAAB", "CABACBAA", "CABACBA", "CABACB"):
            await on.press("ctrl+z")
            assert on.app.text == expected


async def test_only_after_the_last_token_it_is_written(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.press("left", "w", "w")
        assert on.told == "the cursor is on an earlier token: end goes to the last one"
        assert on.app.text == "CABACB"


async def test_what_another_layer_does_not_have_is_said_and_left(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.to("query")
        await on.press("tab")
        on.app.look_at(on.app.state.at_cell((99, 0)))
        await answered(on.app, on.pilot)
        assert "row 99 is out of range" in " ".join(on.text().split())
        await on.press("right")
        assert on.app.state.focus.cell is None
        assert "number 0 of the query" in on.text()


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 60)])
async def test_the_number_is_told_at_any_size(sort: Scope, size: tuple[int, int]) -> None:
    async with walk(sort, size=size) as on:
        await on.to("scores")
        await on.press("tab", "left")
        shown = on.text()
        assert "score that ‹B› at 5 gives ‹C› at 4" in shown
        assert "0.25 · (query · key, added up)" in shown


async def test_in_a_tiny_window_nothing_breaks(sort: Scope) -> None:
    async with walk(sort, size=(30, 8)) as on:
        await on.press("tab", "right", "g", ">", "g", "i", "g", "b", "d", "d", "w", "w")
        assert on.app.is_running


async def test_elsewhere_the_keys_say_where_the_steps_are(sort: Scope) -> None:
    async with walk(sort) as on:
        await on.press("1")
        for letter in (">", "<", "i", "b"):
            await on.press("g", letter)
            assert on.told == "steps are in 0 k Walkthrough"
        assert on.app.text == "CABACB"
