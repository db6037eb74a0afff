"""The list of turns: a key opens it, enter goes to a turn, and foreign text stays text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from llmscope.draw import RenderOptions
from llmscope.models.tokenizer.conversation import TurnSpan
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.dialogs.turns import TurnsScreen
from tests.tui.acting import INFO, ActingEngine, tokenize
from tests.tui.conftest import Open, Session

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc [/x] [@click=app.quit]y[/]"
PARTS = (
    ("system", "Be kind."),
    ("user", "How is the weather in Rome?"),
    ("call", "weather Rome"),
    ("tool", EVIL),
    ("reasoning", "It is fine there."),
    ("assistant", "Fine."),
)
TURN = {"system": 1, "user": 2, "call": 3, "tool": 4, "reasoning": 5, "assistant": 5}


def conversation() -> tuple[str, tuple[TurnSpan, ...]]:
    text, spans = "", []
    for role, said in PARTS:
        text += f"<{role}> "
        spans.append(TurnSpan(len(text), len(text) + len(said), role, TURN[role]))
        text += f"{said} </end>\n"
    return text, tuple(spans)


@asynccontextmanager
async def started(width: int = 120, height: int = 40) -> AsyncIterator[Session]:
    text, spans = conversation()
    app = LlmscopeApp(ActingEngine, spec=INFO.spec, prompt=text, turns=spans, look=RenderOptions())
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        session = Session(app, app.engine, pilot)  # type: ignore[arg-type]
        await session.settle()
        yield session


async def test_enter_moves_the_cursor_to_the_turn() -> None:
    text, spans = conversation()
    async with started() as session:
        await session.press("escape", "g", "l")
        assert isinstance(session.app.screen, TurnsScreen)
        await session.press("R", "o", "m", "e", "down", "enter")
        position = session.app.state.focus.position
        token = tokenize(text)[position]
        assert token.start <= spans[2].start < token.end
        editor = session.app.editor
        assert editor.document.get_index_from_location(editor.cursor_location) == spans[2].start
        await session.press("g", "l")
        assert session.app.screen.choices.at == 2  # type: ignore[attr-defined]
        await session.press("escape")
        assert len(session.app.screen_stack) == 1


async def test_before_the_first_pass_the_text_goes_to_the_turn() -> None:
    _, spans = conversation()
    async with started() as session:
        session.app.state = replace(session.app.state, tokens=())
        await session.press("escape", "g", "l", "up", "enter")
        editor = session.app.editor
        assert editor.document.get_index_from_location(editor.cursor_location) == spans[-2].start


async def test_it_shows_turns_roles_and_tokens() -> None:
    for size in ((120, 40), (80, 24), (40, 10)):
        async with started(*size) as session:
            await session.press("escape", "g", "l")
            shown = session.screen_text()
            rows = session.app.screen.choices.found  # type: ignore[attr-defined]
            assert [one.label.split()[:2] for one in rows] == [
                [str(TURN[role]), role] for role, _ in PARTS
            ]
            assert "assistant" in shown


async def test_nothing_foreign_reaches_the_screen_raw() -> None:
    async with started() as session:
        await session.press("escape")
        before = session.screen_text()
        await session.press("g", "l", "up", "up")
        shown = before + session.screen_text()
        assert "[@click=app.quit]" in shown  # as text
        assert not any(char in shown for char in "\x1b\x07\x9b\u202e\x00")
        assert session.app.is_running


async def test_every_part_has_its_colour_and_the_text_its_own_special_tokens() -> None:
    async with started() as session:
        assert not session.engine.requests[-1].special_tokens
        title = str(session.app.editor.border_title)
        for role, _ in PARTS:
            assert role in title
            assert session.app.editor.get_component_rich_style(f"prompt--{role}-odd").bgcolor


async def test_turns_follow_an_edit_and_go_with_the_template() -> None:
    text, _ = conversation()
    async with started() as session:
        session.app.editor.replace_all(text.replace("Be kind", "Be very kind"))
        await session.settle()
        roles = session.app.chat.roles
        assert [session.app.text[one.start : one.end] for one in roles][1] == PARTS[1][1]
        session.app.editor.replace_all("plain")
        await session.press("escape", "g", "l")
        assert session.app.chat.roles == ()
        assert "no turns here" in session.screen_text()


async def test_a_plain_prompt_has_no_turns(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "g", "l")
        assert len(session.app.screen_stack) == 1
        assert "no turns here" in session.screen_text()
