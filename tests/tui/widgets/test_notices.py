"""A notice that comes too late goes by all the same."""

from __future__ import annotations

import time

import pytest
from textual.notifications import Notify

from llmscope.tui.widgets.notices import SHORTEST, Notice
from tests.tui.conftest import Open


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
        await session.press("escape", "v")
        assert app.is_running
        assert "too late" not in session.screen_text()


async def test_every_notice_of_the_program_is_one(opened: Open) -> None:
    async with opened() as session:
        session.app.tell("hello", "warning")
        session.app.notify("from elsewhere")
        await session.settle()
        assert [type(one) for one in session.app._notifications] == [Notice, Notice]
