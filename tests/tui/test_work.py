"""Long work tells how far it is, and can be stopped."""

from __future__ import annotations

import pytest

from llmscope.engine.events import Working
from llmscope.tui.engine_client import EngineSays
from llmscope.tui.panes.titles import OUT_OF_DATE
from tests.tui.acting_what_if import ablation
from tests.tui.conftest import PROMPT, Open, Session

SIZES = [(80, 24), (120, 40), (200, 60)]


@pytest.fixture(autouse=True)
def no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests say when time has passed."""
    monkeypatch.setattr("llmscope.tui.request_scheduler.PATIENCE", 600)
    monkeypatch.setattr("llmscope.tui.request_scheduler.FADING", 1200)


async def tell(session: Session, task: str, done: int = 0, total: int = 0, serial: int = -1) -> str:
    """Let the engine report its work on the last request, and return the header."""
    serial = session.engine.requests[-1].serial if serial < 0 else serial
    session.engine.post(Working(serial, task, done, total))
    await session.settle()
    return header(session)


def header(session: Session) -> str:
    return session.screen_text().split("\n")[0]


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_pass_tells_its_layers_in_the_header_and_in_the_empty_panes(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size, auto=False) as session:
        session.engine.load()
        await session.settle()
        assert "running layer 12 of 30 · esc esc stops" in await tell(
            session, "running layer", 12, 30
        )
        body = session.screen_text().split("\n", 1)[1]
        assert body.count("running layer 12 of 30") == len(session.app.grid.on_screen)
        assert "━━━━━━━━━──────" in body
        await session.press("escape")
        assert "running layer 13 of 30 · esc stops" in await tell(session, "running layer", 13, 30)
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert "running" not in session.screen_text()
        assert "stops" not in session.screen_text()


async def test_a_figure_that_waits_long_has_the_bar_in_its_title(opened: Open) -> None:
    async with opened() as session:
        session.engine.auto = False
        await session.press("space", "x")
        await tell(session, "running layer", 15, 30)
        assert "━━━━──── 15/30" not in session.screen_text(), "not for every slow letter"
        session.app.requests._is_overdue()
        session.app.requests._is_overdue()
        await session.settle()
        assert "Map · ━━━━──── 15/30 · logit lens" in session.screen_text()


async def test_the_check_of_a_model_is_told_until_it_is_over(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        told = await tell(session, "checking the numbers", serial=0)
        assert "checking the numbers" in told
        assert "stops" not in told
        assert "checking" not in await tell(session, "", serial=0)


async def test_work_on_an_older_request_is_not_told(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        await session.press("space", "x")
        first, *_, last = (request.serial for request in session.engine.requests)
        assert first < last
        assert "layer 3 of 30" not in await tell(session, "running layer", 3, 30, first)
        assert "layer 3 of 30" in await tell(session, "running layer", 3, 30, last)


async def test_a_sweep_is_told_in_the_header(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "4")
        request = session.engine.requests[-1]
        want = next(want for want in request.wants if want.key == "ablation")
        session.engine.answer(request, only={"ablation": ablation(want, (42, 270))}, complete=False)
        await session.settle()
        assert "ablation, pass 42 of 270 · esc stops" in header(session)
        session.engine.answer(request)
        await session.settle()
        assert "of 270" not in session.screen_text()


async def test_esc_stops_the_work_keeps_the_figures_and_a_change_starts_it_again(
    opened: Open,
) -> None:
    async with opened() as session:
        app, engine = session.app, session.engine
        before = app.figures.shown("map")
        engine.auto = False
        app.editor.replace_all(f"{PROMPT} not")
        await session.settle()
        await tell(session, "running layer", 12, 30)
        await session.press("escape")
        assert engine.stops == 0, "the first esc leaves the prompt"
        stopped = engine.requests[-1]
        await session.press("escape")
        assert engine.stops == 1
        assert "stopped: a change starts it again" in header(session)
        assert app.figures.shown("map") is before
        title = str(app.grid.panes["map"].border_title)
        assert OUT_OF_DATE in title, "it is of another text"
        assert "…" not in title, "and nothing runs"
        engine.answer(stopped)
        await tell(session, "running layer", 20, 30)
        assert app.figures.shown("map") is before, "what still comes is of no use"
        app.on_figure_pane_sized()
        await session.settle()
        assert engine.requests[-1] is stopped, "nothing changed"
        await session.press("escape")
        assert engine.stops == 1, "nothing runs"
        await session.press("up")
        assert engine.requests[-1].serial > stopped.serial
        assert "stopped" not in header(session)
        engine.answer(engine.requests[-1])
        await session.settle()
        assert app.figures.shown("map") is not before


async def test_any_key_of_the_cursor_starts_a_stopped_first_pass_again(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        await session.press("escape")
        await tell(session, "running layer", 2, 30)
        await session.press("escape")
        assert session.engine.stops == 1
        stopped = session.engine.requests[-1]
        await session.press("left")
        assert session.engine.requests[-1].serial > stopped.serial
        assert "stopped" not in header(session)
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert "verified" in session.screen_text()


async def test_where_no_layer_is_told_the_key_is_shown_after_a_while(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape")
        session.engine.auto = False
        await session.press("left")
        session.app.requests._is_overdue()
        await session.settle()
        assert "running" in header(session)
        assert "esc stops" not in header(session), "not for every slow letter"
        session.app.requests._is_overdue()
        await session.settle()
        assert "running · esc stops" in header(session)


async def test_stopping_cancels_what_was_about_to_be_asked(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.request_scheduler.SETTLING", 600)
    async with opened() as session:
        await session.press("escape", "4")
        session.engine.auto = False
        session.app.editor.replace_all("The capital of Spain is")
        await session.settle()
        assert "ablation" not in session.wanted()
        assert session.app.requests.unsettled
        await session.press("escape")
        assert session.engine.stops == 0, "nothing on the screen says that anything runs"
        session.app.requests._is_overdue()
        await session.press("escape")
        assert session.engine.stops == 1
        assert not session.app.requests.unsettled


async def test_esc_does_nothing_where_nothing_runs(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "escape")
        assert session.engine.stops == 0
        assert not session.app._notifications


def test_reports_that_wait_give_way_to_newer_ones() -> None:
    older, newer = (EngineSays(Working(1, "running layer", at, 30)) for at in (1, 2))
    assert older.can_replace(newer)
