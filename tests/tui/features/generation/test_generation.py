"""The model writes on in the editor: what keys do, and that nothing typed is ever lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.content import Content

from llmscope.engine.events import Refused, Sampled
from llmscope.lenses.next_token import sampler
from llmscope.models.generation import Rules
from llmscope.models.sampler import Sampler
from llmscope.tui.actions.user_keymap import keymap_from
from llmscope.tui.features.generation import generation
from llmscope.tui.features.generation.generation import WAIT
from llmscope.tui.features.generation.sampler_dialog import SamplerScreen
from llmscope.tui.user_state import UserState
from tests.tui.acting import INFO, NEXT, tokenize
from tests.tui.conftest import PROMPT, Open, Session


def told(session: Session) -> str:
    notices = list(session.app._notifications)
    return str(notices[-1].message) if notices else ""


def title(session: Session) -> str:
    return Content.from_markup(session.app.editor.border_title or "").plain


async def test_a_token_at_a_time_and_back(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "w")
        assert app.text == app.editor.text == PROMPT + NEXT[0]
        asked = session.engine.requests[-1]
        assert asked.written is not None
        assert (asked.written.start, asked.written.ids) == (len(PROMPT), (0,))
        assert asked.draw is None
        assert app.state.tokens[-1].text == NEXT[0]
        assert "1 written" in title(session)
        await session.press("w", "w", "w", "w")
        assert app.text == PROMPT + "".join(NEXT[:3])
        assert "3 written" in title(session)
        await session.press("w", "u", "w", "u")
        assert app.text == PROMPT + NEXT[0]
        await session.press("w", "u", "w", "u")
        assert app.text == PROMPT
        assert session.engine.requests[-1].written is None
        assert "written" not in title(session)
        assert told(session).startswith("nothing was generated here: w w generates a token")


async def test_keys_in_quick_succession_write_a_token_each(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape")
        await session.pilot.press("w", "w", "w", "w", "w", "w")
        for _ in range(6):
            await session.settle()
        assert session.app.text == PROMPT + "".join(NEXT[:3])


async def test_in_the_prompt_letters_are_text(opened: Open) -> None:
    async with opened() as session:
        await session.press("w", "r")
        assert session.app.text == PROMPT + "wr"
        assert all(request.draw is None for request in session.engine.requests)
        await session.press("escape", "w", "w", "e")
        assert session.app.text == PROMPT + "wr" + NEXT[0]
        await session.press("x")
        assert session.app.text == PROMPT + "wr" + NEXT[0] + "x"
        assert session.engine.requests[-1].written is None, "it is cut into tokens as it stands"
        assert session.app.generation.marks == ((len(PROMPT) + 2, len(PROMPT) + 2 + len(NEXT[0])),)


@pytest.mark.slow
async def test_the_editors_own_undo_takes_a_token_and_a_whole_run_back(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "w", "w", "w", "e")
        two = PROMPT + NEXT[0] + NEXT[1]
        await run_to(session, 8)
        await session.press("left")  # any key ends it
        written = app.text
        assert len(written) > len(two)
        await session.press("ctrl+z")
        assert app.text == two
        assert app.generation.branches is not None, "it is known again, with its tokens"
        assert app.generation.branches.ids == (0, 1)
        await session.press("ctrl+z", "ctrl+z")
        assert app.text == PROMPT
        await session.press("ctrl+y", "ctrl+y", "ctrl+y")
        assert app.text == written
        assert session.engine.requests[-1].written is not None


async def run_to(session: Session, count: int) -> None:
    """Let the model write by itself until there are so many tokens."""
    await session.pilot.press("f4")
    while (group := session.app.generation.branches) is None or group.count < count:
        await session.pilot.pause(0.01)


@pytest.mark.parametrize(
    "key",
    [
        "escape",
        "x",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("left", "f1", "tab", "ctrl+p")),
    ],
)
async def test_any_key_ends_a_run_and_is_taken(opened: Open, key: str) -> None:
    async with opened() as session:
        app = session.app
        await run_to(session, 5)
        assert app.generation.runs
        assert "writing, any key stops" in title(session)
        await session.press(key)
        assert not app.generation.runs
        assert not app.generation.writes
        text = app.text
        await session.pilot.pause(0.1)
        assert app.text == text
        assert "any key" not in title(session)
        assert (text[-1] == "x") == (key == "x")
        assert app.in_prompt == (key in ("left", "x"))
        assert app.editor.text == app.text


@pytest.mark.slow
async def test_once_more_ends_a_run_and_a_step_too(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape")
        for key in ("R", "E"):
            await session.pilot.press("w", "r")
            await session.pilot.pause(0.05)
            assert session.app.generation.runs
            await session.press(key)
            await session.pilot.pause(0.05)
            assert not session.app.generation.runs
            assert not session.app.generation.writes


async def test_a_letter_that_comes_with_the_token_has_the_word(opened: Open) -> None:
    async with opened(auto=False) as session:
        app, engine = session.app, session.engine
        engine.load()
        await session.settle()
        engine.answer(engine.requests[-1])
        await session.settle()
        app.action_act("write-token")
        await session.settle()
        drawn = engine.drawn(engine.requests[-1])
        await session.pilot.press("x")
        engine.post(drawn)
        await session.settle()
        assert app.text == PROMPT + "x"
        # And one that the editor has, but the app has not heard of.
        engine.answer(engine.requests[-1])
        app.action_act("write-token")
        await session.settle()
        drawn = engine.drawn(engine.requests[-1])
        app.editor.insert("y")
        app.generation.land(app, drawn)
        await session.settle()
        assert app.text == PROMPT + "xy"
        assert not app.generation.writes


async def test_what_cannot_be_written_is_said_and_the_picture_stays(opened: Open) -> None:
    async with opened(auto=False) as session:
        app, engine = session.app, session.engine
        await session.press("f4")
        assert told(session) == "the model is not there yet"
        engine.load()
        await session.settle()
        engine.answer(engine.requests[-1])
        await session.settle()
        for found, said in (
            ({"stops": True, "label": "<|end|>\x1b["}, "the model ends here: <|end|>"),
            ({"full": True}, "the context is full: no token can follow"),
            ({"error": "the logits hold NaN"}, "the logits hold NaN"),
        ):
            await session.press("f4")
            request = engine.requests[-1]
            assert request.draw is not None
            engine.post(Sampled(request, **found))
            engine.answer(request)
            await session.settle()
            assert told(session).startswith(said)
            assert "\x1b" not in told(session)
            assert not app.generation.runs
            assert app.text == PROMPT
            assert not app.figures.waiting
        await session.press("f4")
        engine.post(Refused(engine.requests[-1].serial, "out of memory on cpu"))
        await session.settle()
        assert not app.generation.writes


async def test_nothing_is_written_after_nothing(opened: Open) -> None:
    async with opened(prompt="") as session:
        await session.press("f4")
        assert told(session) == "type something first: the model generates what comes after it"
        assert session.app.text == ""
        assert not session.app.generation.writes


async def test_fork_keeps_a_branch_and_one_can_go_through_them(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "w", "w", "w", "w", "w", "w", "f")
        assert app.text == PROMPT
        assert told(session) == "branch 2: w w writes another; w p and w n go through all"
        await session.press("w", "w", "w", "w")
        draw = next(one.draw for one in reversed(session.engine.requests) if one.draw)
        assert draw.branch == 1
        assert app.text == PROMPT + NEXT[3] + NEXT[4]
        assert "branch 2 of 2" in title(session)
        await session.press("w", "p")
        assert app.text == PROMPT + "".join(NEXT[:3])
        assert "branch 1 of 2" in title(session)
        await session.press("w", "n")
        assert app.text == PROMPT + NEXT[3] + NEXT[4]
        # From the token under the cursor.
        await session.press("left", "w", "f", "w", "w")
        assert app.text == PROMPT + NEXT[3] + NEXT[7]
        assert "branch 3 of 3" in title(session)
        await session.press("home", "w", "f")
        assert told(session) == "the cursor is on a token that the model did not write"
        assert app.text == PROMPT + NEXT[3] + NEXT[7]


async def test_a_fork_knows_what_other_branches_have_there(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "w", "w", "w", "w", "w", "f", "w", "w")
        draws = [request.draw for request in session.engine.requests if request.draw]
        assert [draw.tried for draw in draws] == [(), (), (0,)]
        await session.press("w", "u", "w", "u", "w", "w")
        assert session.app.text == PROMPT + NEXT[3], "taken back and drawn again, it is the same"


@pytest.mark.few(2)
@pytest.mark.parametrize("key", ["u", "f", "p", "n"])
async def test_where_nothing_was_written_the_keys_say_so(opened: Open, key: str) -> None:
    async with opened() as session:
        await session.press("escape", "w", key)
        assert "w w generates a token" in told(session) or "one branch alone" in told(session)
        assert session.app.text == PROMPT


async def test_the_sampler_is_set_in_a_line_and_shown(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "t")
        screen = app.screen
        assert isinstance(screen, SamplerScreen)
        assert screen._line.value == "temperature 0 top-k 0 top-p 1 min-p 0 seed 0"
        screen._line.value = "temperature 2 top-p [red]"
        await session.press("enter")
        assert app.screen is screen, "what is wrong stays"
        assert "'[red]' is no number for top-p" in session.screen_text()
        screen._line.value = "temperature 0.8 top-k 40 seed 7"
        await session.press("enter")
        assert app.state.sampler == Sampler(0.8, 40, seed=7)
        assert told(session) == "the next token: temperature 0.8 top-k 40 seed 7"
        want = next(one for one in session.engine.requests[-1].wants if one.key == "next-token")
        assert sampler(want.focus) == Sampler(0.8, 40)
        heading = app.grid.panes["next-token"]._border_title.plain  # type: ignore[union-attr]
        assert "· T 0.8 k 40" in heading
        await session.press("w", "w")
        draw = next(one.draw for one in reversed(session.engine.requests) if one.draw)
        assert draw.sampler == app.state.sampler


async def test_a_context_that_is_marked_off_stays_so_whatever_is_written(opened: Open) -> None:
    text = "apple: red\n---\nsky:"
    async with opened(prompt=text) as session:
        await session.press("escape", "w", "w")
        asked = session.engine.requests[-1]
        assert asked.text == "apple: red\nsky:" + NEXT[0]
        assert asked.context == len("apple: red\n")
        assert asked.written is not None
        assert asked.written.start == len("apple: red\nsky:")
        assert session.app.text == text + NEXT[0]
        # A model that writes a line of dashes has made no mark.
        group = session.app.generation.branches
        assert group is not None
        longer = group.with_token(9, NEXT[0] + "\n---\nand")
        session.app.generation._set(session.app, longer)
        await session.settle()
        asked = session.engine.requests[-1]
        assert asked.text == "apple: red\nsky:" + NEXT[0] + "\n---\nand"
        assert asked.context == len("apple: red\n")


async def test_hostile_tokens_reach_the_screen_in_words(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "w")
        group = app.generation.branches
        assert group is not None
        app.generation._set(app, group.with_token(9, NEXT[0] + "\x1b[31m[/nope][@click=app.exit]x"))
        await session.settle()
        assert app.text.endswith("\x1b[31m[/nope][@click=app.exit]x"), "the prompt is exact"
        assert "\x1b" not in session.screen_text()
        assert "[/nope]" in session.screen_text()


async def test_a_token_that_says_nothing_is_a_token_all_the_same(opened: Open) -> None:
    async with opened(auto=False) as session:
        app, engine = session.app, session.engine
        engine.load()
        await session.settle()
        engine.answer(engine.requests[-1])
        await session.settle()
        await session.press("f4")
        for count in (1, 2, 3):
            request = engine.requests[-1]
            assert request.draw is not None
            engine.post(Sampled(request, 77, "", ""))
            engine.answer(request)
            await session.settle()
            written = engine.requests[-1].written
            assert written is not None
            assert written.ids == (77,) * count
        await session.press("escape", "w", "u")
        assert engine.requests[-1].written is not None
        assert engine.requests[-1].written.ids == (77, 77)
        assert app.text == PROMPT


async def test_while_it_runs_a_token_waits_for_a_picture_now_and_then(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("llmscope.tui.features.generation.generation.monotonic", lambda: clock[0])
    async with opened(auto=False) as session:
        app, engine = session.app, session.engine
        engine.load()
        await session.settle()
        engine.answer(engine.requests[-1])
        await session.settle()
        await session.press("f4")
        seen = []
        for later in (0.0, 0.05, 0.3, 0.05):
            clock[0] += later
            request = engine.requests[-1]
            engine.post(engine.drawn(request))
            await session.settle()
            held = engine.requests[-1] is request
            if held:
                assert app.text == request.text, "it waits"
                engine.answer(request)
                await session.settle()
                assert app.state.tokens == tokenize(request.text), "and the picture is there"
            assert app.text != request.text
            seen.append(held)
        assert seen == [False, False, True, False]
        # A picture that takes too long is not waited for.
        clock[0] += 1
        request = engine.requests[-1]
        engine.post(engine.drawn(request))
        await session.settle()
        assert app.text == request.text
        await session.pilot.pause(WAIT + 0.2)
        assert app.text != request.text


async def test_a_click_while_it_runs_moves_the_cursor_and_loses_no_token(opened: Open) -> None:
    async with opened(auto=False) as session:
        app, engine = session.app, session.engine
        engine.load()
        await session.settle()
        engine.answer(engine.requests[-1])
        await session.settle()
        await session.press("f4")
        first = engine.requests[-1]
        app.look_at(app.state.move_to(layer=3, position=1))
        second = engine.requests[-1]
        assert second is not first
        assert second.draw is first.draw, "the first may never have been taken"
        for request in (first, second):
            engine.post(engine.drawn(request))
        engine.answer(second)
        await session.settle()
        assert app.text == PROMPT + NEXT[0], "the same token twice is one"
        assert app.generation.runs
        assert app.state.focus.position == 1


async def test_until_the_editor_has_told_of_a_token_the_text_before_keeps_its_tokens(
    opened: Open,
) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "w", "w")
        group = app.generation.branches
        assert group is not None
        app.generation._set(app, group.with_token(5, NEXT[0] + NEXT[5]))
        app.look_at(app.state.move_to(layer=3))  # before the editor's message has come
        asked = session.engine.requests[-1]
        assert asked.text == PROMPT + NEXT[0]
        assert asked.written is not None
        assert asked.written.ids == (0,)
        await session.settle()
        asked = session.engine.requests[-1]
        assert asked.written is not None
        assert asked.written.ids == (0, 5)


async def test_keys_of_ones_own_do_not_end_what_they_begin(opened: Open) -> None:
    user = UserState(keymap=keymap_from({"keys": {"write-on": "f9"}}))
    async with opened(user=user) as session:
        await session.pilot.press("f9")
        await session.pilot.pause(0.05)
        assert session.app.generation.runs
        await session.press("f4")
        assert not session.app.generation.runs


async def test_another_look_at_the_pass_while_it_runs_is_no_end_of_the_program(
    opened: Open,
) -> None:
    """What it is drawn from is another pass then: the writing may end, and never hangs."""
    async with opened() as session:
        app = session.app
        await run_to(session, 3)
        app.look_at(replace(app.state, versus_prompt="another"))
        await session.press("escape", "w", "w")
        before = app.text
        await session.press("w", "w")
        assert app.text != before


async def test_the_rules_that_a_model_writes_by_are_in_sight(opened: Open) -> None:
    rules = Rules(("repetition_penalty 1.3",), ("num_beams 4: a beam search weighs whole texts",))
    async with opened() as session:
        assert "repetition" not in title(session)
        session.engine.load(replace(INFO, rules=rules))
        await session.settle()
        await session.press("escape", "w", "w")
        assert "by repetition_penalty 1.3" in title(session)
        await session.press("w", "t", "enter")
        assert "by its generation_config: repetition_penalty 1.3" in told(session)
        assert "not applied: num_beams 4" in told(session)


async def test_the_text_goes_on_in_other_ways_from_a_token(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "LENGTH", 2)
    async with opened() as session:
        app = session.app
        await session.press("escape", "left", "left")
        at = app.state.focus.position
        base = PROMPT[: app.state.tokens[at].start]
        await session.press("w", "s")
        for _ in range(12):
            await session.settle()
        branches = app.generation.branches
        assert branches is not None
        assert branches.base == base
        assert not app.generation.writes
        texts = [branches.base + one.text for one in branches.kept]
        assert texts[0] == PROMPT  # as it was
        assert len(texts) == 1 + generation.SAMPLED
        assert [len(one.ids) for one in branches.kept[1:]] == [2] * generation.SAMPLED
        assert [one.stream for one in branches.kept] == [0, 1, 2, 3]
        assert app.text == app.editor.text == texts[-1]
        await session.press("w", "n")
        assert app.text == PROMPT
        prompt_ids = tuple(token.id for token in tokenize(PROMPT)[at:])
        await session.press("w", "w")  # after tokens of the prompt, which the model did not write
        assert app.text.startswith(PROMPT + " ")
        written = session.engine.requests[-1].written
        assert written is not None
        assert written.ids[:-1] == prompt_ids
        await session.press("w", "u", "home", "w", "s")
        assert told(session) == "there is nothing before this token to go on from"
