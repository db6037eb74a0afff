"""Notices go by even if they come too late, cover the panes alone, and stay in the message log."""

from __future__ import annotations

import time

import pytest
from textual.notifications import Notify

from llmscope.tui.dialogs.messages import EMPTY
from llmscope.tui.dialogs.page import PageScreen
from llmscope.tui.user_state import UserState
from llmscope.tui.widgets.notices import LOGGED, SHORTEST, Notice
from tests.tui.conftest import Open, Session

SIZES = [(30, 6), (40, 10), (59, 15), (80, 24), (120, 40), (200, 60)]
LONG = "a long notice that tells of something in many words, and then of something else; " * 4


def test_time_left_is_never_less_than_nothing() -> None:
    old = Notice("a", timeout=2, raised_at=time.time() - 5)
    assert (old.time_left, old.has_expired) == (SHORTEST, True)
    new = Notice("a", timeout=2)
    assert 1.5 < new.time_left <= 2
    assert not new.has_expired


@pytest.mark.timeout(60)
async def test_a_notice_whose_time_ended_on_its_way_does_not_hold_the_screen_up(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a stop: it is put on the screen, and only then is it told how late it is."""
    async with opened() as session:
        app = session.app
        app.tell("hello")
        late = Notice("too late", timeout=2, raised_at=time.time() - 5)
        # What is over is not taken any more, so it has to end between that and its mounting.
        with monkeypatch.context() as patch:
            patch.setattr(Notice, "has_expired", False)
            app.post_message(Notify(late))
            await session.settle()
        await session.pilot.pause(4 * SHORTEST)
        await session.press("escape", "d", "d")
        assert app.is_running
        assert "too late" not in session.screen_text()


async def test_every_notice_of_the_program_is_one(opened: Open) -> None:
    async with opened() as session:
        session.app.tell("hello", "warning")
        session.app.notify("from elsewhere")
        await session.settle()
        assert [type(one) for one in session.app._notifications] == [Notice, Notice]


def outside(session: Session) -> list[str]:
    """The rows of the screen above and below the panes: header, prompt, and the two last lines."""
    app, rows = session.app, session.screen_text().split("\n")
    area = (app.grid if app.grid.display else app.placeholder).region
    assert area.y > 1
    assert area.bottom == len(rows) - 2
    return [*rows[: area.y], *rows[area.bottom :]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.few(1)
async def test_notices_lie_over_the_panes_and_nothing_else(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        session.app.NOTIFICATION_TIMEOUT = 600
        before = outside(session)
        for severity in ("information", "warning", "error", "error"):
            session.app.tell(LONG, severity)
        await session.settle()
        assert "long notice" in session.screen_text()
        assert outside(session) == before
        # A prompt that grows takes rows from the panes, and so from the notices.
        await session.press(*["enter"] * 4, *"abc")
        grown = outside(session)
        assert "long notice" in session.screen_text()
        assert not any("long notice" in row for row in grown)
        assert any("abc" in row for row in grown)


@pytest.mark.parametrize("size", SIZES)
async def test_notices_lie_over_the_placeholder_while_there_are_no_figures(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size, prompt="") as session:
        before = outside(session)
        session.app.tell(LONG)
        await session.settle()
        assert "long notice" in session.screen_text()
        assert outside(session) == before


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("keys", [("X", "X"), ("ctrl+r",), ("ctrl+p",)], ids=lambda keys: keys[0])
@pytest.mark.few(3)
async def test_notices_leave_the_line_of_a_dialog_free(
    opened: Open, size: tuple[int, int], keys: tuple[str, ...]
) -> None:
    async with opened(*size) as session:
        await session.press("escape", *keys)
        line = session.app.screen.query_one("#line").region
        before = session.screen_text().split("\n")[line.y]
        for _ in range(6):
            session.app.tell(LONG)
        await session.settle()
        assert "long notice" in session.screen_text()
        assert session.screen_text().split("\n")[line.y] == before


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_notices_leave_the_legends_at_the_bottom_free(
    opened: Open, size: tuple[int, int]
) -> None:
    async with opened(*size) as session:
        await session.press("escape")
        last = session.app.grid.region.bottom - 1
        before = session.screen_text().split("\n")[last]
        assert "probability 0" in before or "╰" in before
        session.app.tell("a notice of one row")
        await session.settle()
        rows = session.screen_text().split("\n")
        assert rows[last] == before
        assert "a notice of one row" in rows[last - 1]


async def test_a_tall_notice_shows_its_beginning(opened: Open) -> None:
    async with opened(40, 10) as session:
        session.app.tell(f"first of all {LONG}")
        await session.settle()
        assert "first of all" in session.screen_text()


async def test_the_log_keeps_what_went_by_with_time_and_severity(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as session:
        app = session.app
        await session.press("escape", "g", "exclamation_mark")
        assert EMPTY in session.screen_text()
        await session.press("escape")
        app.tell("all is well")
        app.tell("beware\x1b[31m", "warning")
        app.notify("it broke", severity="error")
        app.clear_notifications()
        await session.settle()
        for notice, at in zip(app.messages, (0, 60, 3723), strict=True):
            notice.raised_at = at
        monkeypatch.setattr("llmscope.tui.dialogs.messages.time.localtime", time.gmtime)
        await session.press("g", "exclamation_mark")
        assert isinstance(app.screen, PageScreen)
        text = session.screen_text()
        assert "00:00:00  note     all is well" in text
        assert "00:01:00  warning  beware\\x1b[31m" in text
        assert "01:02:03  error    it broke" in text
        await session.press("g", "exclamation_mark")
        assert len(app.screen_stack) == 1


@pytest.mark.slow
async def test_the_log_is_bounded_and_opens_at_its_end(opened: Open) -> None:
    async with opened(80, 24) as session:
        session.app.NOTIFICATION_TIMEOUT = 600
        for number in range(LOGGED + 5):
            session.app.tell(f"notice {number}")
        await session.settle()
        assert f"notice {LOGGED + 4}" in session.screen_text(), "the newest of those on the screen"
        assert len(session.app.messages) == LOGGED
        assert session.app.messages[0].message == "notice 5"
        session.app.action_act("messages")
        await session.settle()
        assert f"notice {LOGGED + 4}" in session.screen_text()
        assert "notice 6 " not in session.screen_text()
        await session.press("home")
        assert "notice 5 " in session.screen_text()


async def test_a_picture_of_the_log_does_not_tell_the_time(opened: Open) -> None:
    async with opened(user=UserState(anonymous=True)) as session:
        session.app.tell("hello")
        session.app.clear_notifications()
        session.app.action_act("messages")
        await session.settle()
        row = next(row for row in session.screen_text().split("\n") if "hello" in row)
        assert "note     hello" in row
        assert ":" not in row
