"""The cursor goes by sentence, turn and hit; the strip shows the whole text and moves it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.draw import RenderOptions
from llmscope.engine.events import Token
from llmscope.models.tokenizer.roles import RoleSpan
from llmscope.support.text_sentences import sentence_spans
from llmscope.tui.features.text_moves import find_hits, next_of, sentence_starts, turn_starts
from llmscope.tui.state.token_measures import MEASURES
from tests.thinned import thinned
from tests.tui.acting import tokenize
from tests.tui.conftest import Open, Session

LONG = "The capital of France is Paris. It lies on the Seine! Does it rain? Often.\n" * 40
"""17 words and signs a line, with the line end: 20 tokens."""


def tokens_of(*texts: str) -> tuple[Token, ...]:
    found, start = [], 0
    for position, text in enumerate(texts):
        found.append(Token(position, position, text, start, start + len(text)))
        start += len(text)
    return tuple(found)


@given(st.lists(st.sampled_from(["One", " two", ".", " Three", "!", "\n", " Mr", " x"])))
def test_a_sentence_begins_in_the_token_of_its_first_character(pieces: list[str]) -> None:
    tokens = tokens_of(*pieces)
    text, starts = "".join(pieces), sentence_starts(tokens)
    wanted = {
        next(token.position for token in tokens if token.start <= start < token.end)
        for start, _ in sentence_spans(text)
    }
    assert set(starts) == wanted


def test_turns_begin_where_their_content_does() -> None:
    tokens = tokens_of("<user>", " Hi", " there", "<assistant>", " Yes", ".")
    roles = (RoleSpan(6, 15, "user"), RoleSpan(26, 31, "assistant"), RoleSpan(31, 31, "user"))
    assert turn_starts(tokens, roles) == (1, 4)
    assert turn_starts(tokens, ()) == turn_starts((), roles) == ()


def test_a_hit_may_be_of_several_tokens() -> None:
    tokens = tokens_of("The", " cap", "ital", " of", " France", " and", " the", " capital")
    assert find_hits(tokens, "capital") == (1, 7)
    assert find_hits(tokens, "CAPITAL OF") == (1,)
    assert find_hits(tokens, "·of·fr") == (3,)
    assert find_hits(tokens, "of france") == (3,)
    assert find_hits(tokens, "") == find_hits(tokens, "Berlin") == find_hits((), "x") == ()


@given(st.text(alphabet="aAß İ\n·", max_size=20), st.text(alphabet="aAß İ\n·", max_size=3))
def test_searching_any_text_ends(text: str, wanted: str) -> None:
    tokens = tokens_of(*text)
    assert all(0 <= place < len(tokens) for place in find_hits(tokens, wanted))


def test_the_next_place() -> None:
    assert [next_of((2, 5, 9), here, 1) for here in (0, 2, 5, 9)] == [2, 5, 9, None]
    assert [next_of((2, 5, 9), here, -1) for here in (0, 2, 5, 10)] == [None, None, 2, 9]


def told(session: Session) -> list[str]:
    return [notice.message for notice in session.app._notifications]


@pytest.mark.slow
async def test_keys_go_by_sentence_and_hit(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        app = session.app
        await session.press("escape", "home", "g", "s")
        assert app.state.token is not None
        assert app.state.token.text == " It"
        await session.press("g", "s", "g", "s", "g", "S")
        assert app.state.token.text == " Does"
        await session.press("slash", *"the seine", "enter")
        first = app.state.focus.position
        assert app.state.token.text == " the"
        await session.press("g", "n", "g", "n")
        per_line = len(tokenize(LONG)) // 40
        assert app.state.focus.position == first + 2 * per_line
        await session.press("g", "p")
        assert app.state.focus.position == first + per_line
        await session.press("g", "t")
        assert told(session)[-1] == "no turns: the prompt follows no chat template"


async def test_turns_of_a_chat(opened: Open) -> None:
    async with opened(prompt="user: Hi there. bot: Yes.") as session:
        session.app.chat.roles = (RoleSpan(6, 15, "user"), RoleSpan(21, 25, "assistant"))
        await session.press("escape", "home", "g", "t")
        assert session.app.state.token is not None
        assert session.app.state.token.text == " Hi"
        await session.press("g", "t")
        assert session.app.state.token.text == " Yes"
        await session.press("g", "t")
        assert told(session)[-1] == "no turn after this one"
        await session.press("g", "T")
        assert session.app.state.token.text == " Hi"


async def test_the_strip_comes_with_a_long_text_and_on_a_key(opened: Open) -> None:
    async with opened() as session:
        assert not session.app.strip.display
        before = session.wanted()
        await session.press("escape", "d", "s")
        assert session.app.strip.display
        assert session.wanted() == before, "surprisal is there already"
        await session.press("d", "s")
        assert not session.app.strip.display
    async with opened(prompt=LONG) as session:
        assert session.app.strip.display
        assert "overview-strip" not in session.wanted()
        await session.press("escape", "d", "s")
        assert not session.app.strip.display
    async with opened(80, 12, prompt=LONG) as session:
        assert not session.app.strip.display


async def test_the_measure_is_asked_for_and_shown(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        app = session.app
        await session.press("escape", "d", "c")
        assert told(session)[-1].startswith("entropy: ")
        assert "overview-strip" not in session.wanted()
        await session.press("d", "c")
        want = next(one for one in session.engine.requests[-1].wants if one.key == "overview-strip")
        assert (want.lens, want.focus.mode, want.focus.span) == ("attention", "mean", (-1, 0))
        await session.press("home", "right")
        want = next(one for one in session.engine.requests[-1].wants if one.key == "overview-strip")
        assert want.focus.span == (1, 2)
        assert " attention " in session.screen_text()
        await session.press("d", "c", "d", "c")
        assert MEASURES[app.state.measure].name == "surprisal", "without B or edits there is no KL"


async def test_a_key_goes_to_the_strongest_and_on(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        app = session.app
        values = np.nan_to_num(app.figures.shown("tokens").figure.values, nan=-1)
        order = np.argsort(-values, kind="stable")
        await session.press("escape", "g", "m")
        assert app.state.focus.position == order[0]
        await session.press("g", "m")
        assert app.state.focus.position == order[1]
        await session.press("end", "d", "c", "d", "c")
        row = app.figures.shown("overview-strip").figure.values[0, 1:-1]
        await session.press("g", "m")
        assert app.state.focus.position == 1 + int(np.argmax(row))


async def test_a_click_goes_to_the_strongest_token_of_the_block(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        app = session.app
        figure = app.figures.shown("tokens").figure
        from llmscope.tui.widgets.overview_strip import GUTTER

        per = -(-len(figure.values) // (2 * (app.strip.size.width - GUTTER))) * 2
        cell = 3
        block = figure.values[cell * per : (cell + 1) * per]
        await session.pilot.click("#overview-strip", offset=(1 + GUTTER + cell, 0))
        await session.settle()
        assert app.state.focus.position == cell * per + int(np.argmax(block))


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("look", "size"),
    thinned(
        product(
            [RenderOptions(), RenderOptions(tier="16"), RenderOptions(tier="none", ascii=True)],
            [(80, 24), (120, 40), (200, 60)],
        ),
        lambda case: case[0].ascii == (case[1] == (80, 24)) and case[1] != (200, 60),
    ),
)
async def test_strip_reader_and_one_query_fit_every_screen(
    opened: Open, size: tuple[int, int], look: RenderOptions
) -> None:
    async with opened(*size, prompt=LONG, look=look) as session:
        await session.press("escape", "5", *["d", "a"] * 6)
        lines = session.screen_text().split("\n")
        assert len(lines) == size[1]
        assert any(line.strip().startswith("surprisal") for line in lines)
        assert any("The capital of France is" in line for line in lines)
        assert session.app.grid.panes["reader"].window is not None
        strip = session.app.strip
        assert strip.size.height == 2
        assert strip._window == session.app.grid.window


async def test_the_reader_moves_by_line_and_page(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        app = session.app
        await session.press("escape", "5", "home", "down")
        per_line = len(tokenize(LONG)) // 40
        assert 0 < app.state.focus.position <= per_line
        await session.press("up")
        assert app.state.focus.position == 0
        await session.press("pagedown")
        assert app.state.focus.position > 10 * per_line
        await session.press("pageup")
        assert app.state.focus.position == 0
        pane = app.grid.panes["reader"]
        hit = next(one for one in pane._painting.boxes if one[3] == 5)
        await session.pilot.click("#reader", offset=(hit[0].start + 2, hit[1].start + 1))
        await session.settle()
        assert app.state.focus.position == 5


async def test_the_reader_takes_its_numbers_from_the_measure(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        await session.press("escape", "5", "d", "c", "d", "c")
        wants = {one.key: one for one in session.engine.requests[-1].wants}
        assert wants["reader"].focus == wants["overview-strip"].focus
        assert wants["reader"].lens == "attention"
        assert "attention of" in session.screen_text()
        assert replace(wants["reader"], key="x") == replace(wants["overview-strip"], key="x")


async def test_edits_offer_kl_to_the_unedited_pass(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        await session.press("escape", "x", "d", "c", "d", "c")
        assert MEASURES[session.app.state.measure].name == "kl"
        want = next(one for one in session.engine.requests[-1].wants if one.key == "overview-strip")
        assert (want.lens, want.focus.mode) == ("contrast", "kl")
        await session.press("x")
        assert " surprisal " in session.screen_text(), "without edits there is no KL"
        assert session.wanted().count("overview-strip") == 0


async def test_the_text_is_there_before_its_numbers(opened: Open) -> None:
    async with opened(prompt=LONG) as session:
        await session.press("escape")
        session.engine.auto = False
        await session.press("5")
        assert session.app.grid.panes["reader"].shown is None
        assert "The capital of France is" in session.screen_text()


@pytest.mark.slow
async def test_the_command_of_one_query_names_it(opened: Open) -> None:
    from llmscope.tui.features.copy.repro_command import command, view

    async with opened(prompt=LONG) as session:
        app = session.app
        await session.press("escape", *["d", "a"] * 6, "home", *["right"] * 5)
        made = view(app.source, app.figures.shown("attention"), app.state)
        assert made is not None
        line = command(made)
        assert line is not None
        assert "--mode all" in line
        assert "--span 5,6" in line
