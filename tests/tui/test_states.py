"""What stands on the screen when there is no picture, or when something went wrong."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from llmscope.engine.events import Frame, LoadFailed, Loading, PassInfo, Refused
from llmscope.figure import Figure
from llmscope.tui.panes.titles import OUT_OF_DATE
from llmscope.tui.widgets.placeholder import ENGLISH, OF_TOWN, SORTING, STARTING
from tests.tui.acting import INFO, figure_for, tokenize
from tests.tui.conftest import PROMPT, Open

HOSTILE = (
    "\x1b[31m",
    "[/nope]",
    "[@click=app.quit]x",
    "\u202e",
    "\u200b",
    "漢字",
    "👩‍👩‍👧",
    "\x9b1m",
    "\n",
)
SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]


async def test_the_model_loads_while_one_types(opened: Open) -> None:
    async with opened(auto=False) as session:
        assert session.engine.started
        session.engine.post(Loading("downloading weights", 30_000_000, 93_000_000))
        await session.settle()
        shown = session.screen_text()
        assert "downloading weights" in shown
        assert "30.0 MB of 93.0 MB" in shown
        assert "━" in shown
        await session.press("space", "o", "h")
        assert session.app.text == PROMPT + " oh"
        assert session.engine.requests == []
        session.engine.load()
        await session.settle()
        assert [request.text for request in session.engine.requests] == [PROMPT + " oh"]


@pytest.mark.parametrize("size", SIZES)
async def test_a_bar_and_a_phase_are_there_before_the_engine_reports_one(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size, auto=False) as session:
        shown = session.screen_text()
        assert STARTING in shown
        assert "────────" in shown.split(STARTING)[1].split("\n")[1]
        session.engine.post(Loading("importing torch"))
        await session.settle()
        shown = session.screen_text()
        assert STARTING not in shown
        assert "────────" in shown.split("importing torch")[1].split("\n")[1]


async def test_a_phase_without_bytes_tells_its_seconds(opened: Open) -> None:
    async with opened(auto=False) as session:
        placeholder = session.app.placeholder
        session.engine.post(Loading("importing torch"))
        await session.settle()
        placeholder._begun = (time.monotonic() - 41.6, 0.0)
        placeholder.tick()
        await session.settle()
        assert " 42 s " in session.screen_text()
        session.engine.post(Loading("reading the weights", 0.0, 93e6))
        await session.settle()
        assert " 42 s " not in session.screen_text(), "each phase counts from its own start"


@pytest.mark.few(2)
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("size", SIZES)
async def test_a_failed_load_says_why_and_what_to_try(
    opened: Open, size: tuple[int, int], loaded: bool
) -> None:
    async with opened(*size, auto=False) as session:
        if loaded:  # and then it could not run
            session.engine.load()
            await session.settle()
        session.engine.post(LoadFailed("no such model: gpt9\x1b[31m", "gpt2"))
        await session.settle()
        shown = session.screen_text()
        assert "could not be loaded" in shown
        assert "\\x1b[31m" in shown
        assert "try: gpt2" in shown
        await session.press("x")
        assert session.app.text.endswith("x")
        await session.press("tab", "q")
    assert session.app.return_code == 0


@pytest.mark.parametrize(
    ("spec", "prompts"),
    [("builtin:sort", SORTING), ("builtin:town-sft", OF_TOWN), ("gpt2", ENGLISH)],
)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.few(3)
async def test_an_empty_prompt_offers_examples(
    opened: Open, spec: str, prompts: tuple[str, ...], size: tuple[int, int]
) -> None:
    async with opened(*size, prompt="", spec=spec) as session:
        assert session.engine.requests == []
        room = session.app.placeholder.size.width - len("▸ 1. ")
        first = prompts[0] if len(prompts[0]) <= room else f"{prompts[0][: room - 1]}…"
        assert first in session.screen_text()
        tiny = size == SIZES[0]
        assert ("tab, then its number" in session.screen_text()) != tiny
        await session.press("tab")
        assert ("↑↓ and enter, or its number" in session.screen_text()) != tiny
        await session.press("2")
        assert session.app.text == prompts[1]
        assert session.engine.requests[-1].text == prompts[1]
        assert session.app.grid.display
        await session.press("ctrl+z")
        assert session.app.text == ""
        assert session.app.placeholder.display


async def test_a_timer_that_rings_after_the_end_does_nothing(opened: Open) -> None:
    async with opened() as session:
        app = session.app
        await session.press("x")
        text = app.text
    assert app.screen_stack == []
    app.text = ""  # the card is to show
    requests = app.requests
    for rings in (requests._settled, requests._paused, requests._is_overdue):
        rings()
    assert app.editor.text == text
    assert app._exception is None


async def test_examples_are_chosen_by_arrows_and_by_mouse(opened: Open) -> None:
    async with opened(prompt="") as session:
        await session.press("tab", "down", "down", "enter")
        assert session.app.text == ENGLISH[2]
        await session.press("ctrl+a", "ctrl+k")
        rows = session.screen_text().split("\n")
        y = next(y for y, row in enumerate(rows) if ENGLISH[1] in row)
        await session.pilot.click(offset=(rows[y].index(ENGLISH[1]), y))
        await session.settle()
        assert session.app.text == ENGLISH[1]


async def test_a_refused_prompt_keeps_the_picture(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("x")
        pane = session.app.grid.panes["map"]
        kept = pane.shown
        serial = session.engine.requests[-1].serial
        session.engine.post(Refused(serial, "the prompt has 9 tokens, 8 fit", "a shorter prompt"))
        await session.settle()
        assert "9 tokens, 8 fit · try: a shorter prompt" in session.screen_text()
        assert pane.shown is kept
        assert pane.stale
        assert "running" not in session.screen_text()
        assert pane._border_title is not None
        assert pane._border_title.plain.endswith(f" · {OUT_OF_DATE}")
        assert session.app.text == PROMPT + "x"
        session.engine.auto = True
        await session.press("backspace")
        assert "8 fit" not in session.screen_text()
        assert not pane.stale


async def test_an_emptied_prompt_takes_its_notes_with_it(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("x")
        session.engine.post(Refused(session.engine.requests[-1].serial, "too long"))
        await session.settle()
        await session.press("ctrl+u")
        assert "too long" not in session.screen_text()
        assert "token" not in session.screen_text().split("\n")[0]


async def test_a_refusal_of_an_older_text_is_nobodys_business(opened: Open) -> None:
    async with opened() as session:
        serial = session.engine.requests[-1].serial
        await session.press("x")
        session.engine.post(Refused(serial, "too long"))
        await session.settle()
        assert "too long" not in session.screen_text()


async def test_a_refused_figure_says_why_in_its_pane(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("x")
        request = session.engine.requests[-1]
        tokens = tokenize(request.text)
        figures = {want.key: figure_for(want, tokens) for want in request.wants}
        figures["attention"] = Figure.refused("attention", "Attention", "mamba has no attention")
        session.engine.answer(request, only=figures)
        await session.settle()
        assert "mamba has no attention" in session.screen_text()
        assert "refused" in session.screen_text()
        assert "looks most" not in session.app.status.text


@pytest.mark.parametrize(
    "size",
    [SIZES[2], *(pytest.param(one, marks=pytest.mark.slow) for one in (*SIZES[:2], SIZES[3]))],
)
async def test_hostile_text_is_shown_harmlessly_everywhere(
    opened: Open, size: tuple[int, int]
) -> None:
    text = "".join(HOSTILE)
    async with opened(*size, prompt=text, spec=HOSTILE[2], auto=False) as session:
        session.engine.load(replace(INFO, name="".join(HOSTILE), notices=HOSTILE))
        await session.settle()
        request = session.engine.requests[-1]
        assert request.text == text
        ends = [sum(map(len, HOSTILE[: i + 1])) for i in range(len(HOSTILE))]
        tokens = tuple(
            tokenize("a")[0]._replace(position=i, text=piece, start=end - len(piece), end=end)
            for i, (piece, end) in enumerate(zip(HOSTILE, ends, strict=True))
        )
        session.engine.answer(request, tokens=tokens)
        session.app.tell("[@click=app.quit]\x1b[31m", "warning")
        await session.settle()
        for keys in ((), ("escape",), ("tab",), ("tab",), ("tab",), ("question_mark",)):
            await session.press(*keys)
            for _ in HOSTILE:
                shown = session.screen_text()
                assert not [c for c in shown if c != "\n" and not c.isprintable()]
                await session.press("left")
        assert session.app.is_running
        assert session.app.text == text


async def test_notices_about_the_prompt_stand_on_its_border(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        request = session.engine.requests[-1]
        tokens = tokenize(request.text)
        figures = {want.key: figure_for(want, tokens) for want in request.wants}
        cost = PassInfo(1, 0, 1.0, 1)
        frame = Frame(request.serial, tokens, figures, cost, notices=("dropped 3 letters: xyz",))
        session.engine.post(frame)
        await session.settle()
        assert "dropped 3 letters: xyz" in session.screen_text().split("\n")[3]


async def test_an_older_frame_never_meets_newer_tokens(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        first = session.engine.requests[-1]
        await session.press("space", "n", "o")
        session.engine.answer(first)
        await asyncio.sleep(0.01)
        await session.settle()
        assert session.app.state.tokens == ()
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert [token.text for token in session.app.state.tokens][-1] == " no"
