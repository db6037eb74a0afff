"""Two prompts side by side: both are edited, both are live, and one cursor is in both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmscope.engine.events import PromptB, Refused, Templated
from llmscope.tui.dialogs.jump import LETTERS, PROMPT_B
from tests.tui.acting import tokenize
from tests.tui.conftest import Open, Session
from tests.tui.test_key_order import burst

A = "The river was cold and we sat on the bank, waiting"
B = "She had a loan at the bank"


def asked(session: Session) -> tuple[str, str | None]:
    request = session.engine.requests[-1]
    return request.text, request.versus_prompt


def told(session: Session) -> list[str]:
    return [notice.message for notice in session.app._notifications]


def word(session: Session) -> str:
    token = session.app.state.token
    assert token is not None
    return token.text


def marked_in_b(session: Session) -> str:
    """The token that B's editor marks."""
    editor = session.app.prompts.b
    found = [token for token in editor._tokens if token.position == editor._marked]
    return "".join(token.text for token in found)


async def compare(session: Session, b: str = B) -> None:
    await session.press("escape", "0", "b")
    session.app.look_at(session.app.state.against(b))
    await session.settle()


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("size", "beside"), [((120, 40), True), ((99, 40), False), ((80, 24), False), ((40, 10), False)]
)
async def test_b_has_an_editor_in_compare_alone(
    opened: Open, size: tuple[int, int], beside: bool
) -> None:
    async with opened(*size, prompt=A) as session:
        editor, a = session.app.prompts.b, session.app.editor
        assert not editor.display
        await session.press("escape", "0", "b")
        assert editor.display
        assert (editor.region.y == a.region.y) == beside
        assert editor.region.bottom <= session.app.grid.region.y
        assert session.app.grid.region.height >= size[1] // 2 - 1
        if size[0] > 40:
            assert "type prompt B" in session.screen_text()
            assert "Prompt A" in session.screen_text()
        await session.press("1")
        assert not editor.display
        assert "Prompt A" not in session.screen_text()


async def test_keys_go_between_the_two_and_the_figures(opened: Open) -> None:
    async with opened(prompt=A) as session:
        app = session.app
        await session.press("escape", "0", "b", "e")
        assert app.focused is app.editor
        assert "tab to B" in session.screen_text()
        await session.press("tab")
        assert app.focused is app.prompts.b
        await session.press("shift+tab")
        assert app.focused is app.editor
        await session.press("tab", "tab")
        assert app.focused is app.grid.pane
        await session.press("b", "b")
        assert app.focused is app.prompts.b
        await session.press("escape")
        assert app.focused is app.grid.pane
        await session.press("p", "p", LETTERS[PROMPT_B])
        assert app.focused is app.prompts.b
        await session.press("escape", "1", "e", "tab")
        assert app.focused is app.grid.pane  # there is no B to go to


async def test_a_letter_in_either_asks_at_once(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await session.press("escape", "b", "b", "escape", "b", "b", "H", "i")
        assert asked(session) == (A, "Hi")
        assert not session.app.figures.waiting
        await session.press("escape", "e", "!")
        assert asked(session) == (A + "!", "Hi")
        await session.press("tab", "enter", "x", "ctrl+z")
        assert asked(session)[1] == "Hi\n"
        shown = session.app.figures.shown("contrast-kl")
        assert shown is not None
        assert shown.request.versus_prompt == "Hi\n"


@pytest.mark.slow
async def test_b_is_there_again_after_other_workspaces_and_is_one_with_the_scene(
    opened: Open,
) -> None:
    async with opened(prompt=A) as session:
        app = session.app
        await session.press("escape", "4", "b", "k")
        assert app.prompts.b.text == A
        await session.press("b", "b", "ctrl+u", *"one", "escape", "1", "0", "n", "0", "b")
        assert (app.prompts.b.text, app.state.versus_prompt) == ("one", "one")
        await session.press("b", "k")
        assert (app.prompts.b.text, app.state.versus_prompt) == (A, A)
        await session.press("b", "k")
        assert (app.prompts.b.text, app.state.versus_prompt) == ("", None)
        await session.press("b", "b", "ctrl+z")
        assert app.state.versus_prompt == A  # nothing that was typed is lost


async def test_b_can_be_emptied_while_figures_show(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await compare(session)
        assert "contrast-kl" in session.app.grid.on_screen
        await session.press("b", "b", "ctrl+u")
        assert asked(session) == (A, None)
        assert "contrast-kl" not in session.app.grid.on_screen, "the main figure says what lacks"
        await session.press("x")
        assert asked(session) == (A, "x")


async def test_b_is_tinted_and_marks_the_token_of_the_cursor(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await compare(session)
        assert word(session) == marked_in_b(session) == " bank"
        await session.press("left")
        assert (word(session), marked_in_b(session)) == (" the", " the")
        await session.press("home")
        assert (word(session), marked_in_b(session)) == ("The", "")
        await session.press("b", "b", "home")
        await session.press(*["right"] * 14, "left", "right")
        assert word(session) == "The"  # ‹ loan› is in B alone
        await session.press("end")
        assert word(session) == " bank"


async def test_the_cursor_leaves_a_token_that_only_a_has(opened: Open) -> None:
    async with opened(prompt=A) as session:
        assert word(session) == " waiting"
        await compare(session)
        assert word(session) == " bank"
        assert "the last token that both have" in session.app.status.text
        await session.press("left")
        assert "the last token that both have" not in session.app.status.text
        await session.press("end")  # who wants to see it sees it
        assert word(session) == " waiting"
        await session.press("d", "d")
        assert word(session) == " waiting"


async def test_it_follows_what_is_typed_in_b_until_somebody_moves_it(opened: Open) -> None:
    async with opened(prompt="The river bank there") as session:
        await session.press("escape", "b", "b", *"The", "space", *"river")
        assert word(session) == " river"
        await session.press("space", *"bank")
        assert word(session) == " bank"
        await session.press("escape", "left", "b", "b", "space", *"is")
        assert word(session) == " river"


async def test_it_goes_back_once_b_has_the_token_that_it_left(opened: Open) -> None:
    async with opened(prompt="The river bank there") as session:
        await session.press("escape", "b", "b", *"The", "space", *"lake")
        assert word(session) == "The"
        await session.press("space", *"there")
        assert word(session) == marked_in_b(session) == " there"
        assert session.app.state.following
        assert "the last token that both have" not in session.app.status.text


async def test_it_stays_where_both_have_a_token(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await session.press("escape", "left", "left", "left")
        assert word(session) == " the"
        await compare(session)
        assert word(session) == " the"
        assert "the last token" not in session.app.status.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "b", ["Ο ποταμός ήταν κρύος", "河水很冷", "🙂🙂 👩‍👩‍👧", "\u202eabc\x1b[31m", "\n\n"]
)
async def test_other_scripts_have_nothing_in_common(opened: Open, b: str) -> None:
    async with opened(prompt=A) as session:
        await compare(session, b)
        assert asked(session) == (A, b)
        assert session.app.prompts.b.text == b
        assert word(session) == " waiting"  # there is no token to go to
        assert marked_in_b(session) == ""
        assert "the last token that both have" not in session.app.status.text
        assert not any(bad in session.screen_text() for bad in "\x1b\u202e")
        await session.press("b", "b", "end", "x")
        assert asked(session)[1] != b


async def test_bursts_in_both_are_written_in_order(opened: Open) -> None:
    async with opened(prompt="one") as session:
        app = session.app
        await session.press("escape", "0", "b", "e")
        burst(app, "ctrl+u", "ab", "backspace", "c", "left", "d")
        await session.settle()
        await session.press("tab")
        burst(app, "xy", "backspace", "z", "home", "w", "enter", "v")
        await session.settle()
        assert (app.text, app.state.versus_prompt) == ("adc", "w\nvxz")
        assert asked(session) == ("adc", "w\nvxz")


async def test_a_b_that_cannot_be_run_says_so_and_the_picture_stays(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await compare(session)
        before = session.app.figures.shown("contrast")
        session.engine.auto = False
        await session.press("b", "b", "x")
        serial = session.engine.requests[-1].serial
        session.engine.post(Refused(serial, "the prompt has 9000 tokens", "less", of_b=True))
        await session.settle()
        editor = session.app.prompts.b
        assert "9000 tokens · try: less" in str(editor.border_subtitle)
        assert not session.app.editor.border_subtitle
        assert session.app.figures.shown("contrast") is before
        session.engine.auto = True
        await session.press("backspace")
        assert not editor.border_subtitle


async def test_a_notice_of_the_tokenizer_about_b(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await compare(session)
        session.engine.auto = False
        await session.press("b", "b", "y")
        request = session.engine.requests[-1]
        frames: list[object] = []
        session.engine.post = frames.append  # type: ignore[assignment]
        session.engine.answer(request)
        (frame,) = frames
        beside = PromptB(B + "y", tokenize(B + "y"), ((0, 0),), ("‹\x1b[31m› was dropped",))
        session.app.hear(replace(frame, prompt_b=beside))  # type: ignore[type-var]
        await session.settle()
        assert "was dropped" in str(session.app.prompts.b.border_subtitle)
        assert "\x1b" not in session.screen_text()


async def test_the_chat_template_takes_both(opened: Open) -> None:
    async with opened(prompt="one") as session:
        app = session.app
        await compare(session, "two")
        await session.press("c", "c")
        assert asked(session) == ("[user] one [assistant]", "[user] two [assistant]")
        assert not session.engine.requests[-1].special_tokens
        assert not app.prompts.b.border_subtitle
        await session.press("c", "c")
        assert asked(session) == ("one", "two")
        await session.press("c", "c", "b", "b", "ctrl+u", *"two", "escape")
        assert "one of A and B is in the chat template" in str(app.prompts.b.border_subtitle)


async def test_a_b_that_is_typed_on_is_not_put_back(opened: Open) -> None:
    async with opened(prompt="one") as session:
        await compare(session, "two")
        session.engine.auto = False
        await session.press("c", "c")
        (request,) = session.engine.messages
        assert request.text == "two"
        await session.press("b", "b", "!")
        session.engine.auto = True
        session.engine.post(Templated(request, "[user] two [assistant]"))
        await session.settle()
        session.engine.post(Templated(session.engine.messages[-1], "[user] one [assistant]"))
        await session.settle()
        assert asked(session) == ("[user] one [assistant]", "two!")


async def test_d_shows_a_less_b(opened: Open) -> None:
    async with opened(prompt=A) as session:
        app = session.app
        await compare(session)
        await session.press("X", "c")
        assert "panes show A − B, at the tokens that both have" in told(session)
        changes = {want.key: want.focus.change for want in session.engine.requests[-1].wants}
        assert changes["next-token"]
        assert not changes["contrast"]
        await session.press("1")
        changes = {want.key: want.focus.change for want in session.engine.requests[-1].wants}
        assert {key for key, on in changes.items() if on} == {
            *("map", "next-token", "attention", "mlp"),
        }
        modes = {want.key: want.focus.mode for want in session.engine.requests[-1].wants}
        assert modes["map"] == "target", "the tokens on top of A and B differ"
        assert session.screen_text().count("A − B") >= 3
        assert "by edits" not in session.app.status.text
        await session.press("x")
        changes = {want.key: want.focus.change for want in session.engine.requests[-1].wants}
        assert changes["map"]
        assert not changes["next-token"]  # it tells of edits always
        assert " · change" in session.screen_text()
        await session.press("x", "X", "c")
        assert "panes show the values again" in told(session)
        modes = {want.key: want.focus.mode for want in session.engine.requests[-1].wants}
        assert modes["map"] == "top"
        assert not any("A − B" in str(pane.border_title) for pane in app.grid.panes.values())


@pytest.mark.slow
async def test_words_are_written_in_one_line(opened: Open) -> None:
    async with opened(prompt=A) as session:
        await compare(session)
        await session.press("b", "w", *"river, shore", enter)
        assert session.engine.requests[-1].words is None
        assert "two lists of words, such as" in session.screen_text()
        await session.press("space", bar, *" money", enter)
        request = session.engine.requests[-1]
        assert request.words == ("river shore", "money")
        wanted = {want.key: want.focus.mode for want in request.wants}
        assert wanted["contrast-word"] == "lens"
        await session.press("b", "w", "ctrl+u", *"quay", bar, *"loan", enter)
        assert "quay has no token of its own" in told(session)
        await session.press("b", "w", "ctrl+u", bar, enter)
        assert session.engine.requests[-1].words is None


enter, bar = "enter", "vertical_line"


@pytest.mark.slow
async def test_both_boxes_are_as_high_as_the_longer_text_needs(opened: Open) -> None:
    async with opened(prompt="one") as session:
        a, b = session.app.editor, session.app.prompts.b
        await session.press("escape", "b", "b")
        for rows in (3, 4, 5, 5, 5):
            assert (a.region.height, b.region.height) == (rows, rows)
            await session.press("enter", "x")
        await session.press("ctrl+u", *["backspace", "ctrl+u"] * 12)
        assert (a.region.height, b.region.height) == (3, 3)
        await session.press("shift+tab", "enter", "y")
        assert (a.region.height, b.region.height) == (4, 4)
        session.app.look_at(session.app.state.against("x\n" * 9))
        await session.settle()
        assert (a.region.height, b.region.height) == (5, 5)
