"""Sweeps on the screen: they hold nothing up, and leave no hole."""

from __future__ import annotations

import pytest

from llmscope.edits import parse
from tests.tui.acting_what_if import ablation
from tests.tui.conftest import Open


async def test_a_sweep_never_holds_the_other_panes_up_and_tells_how_far_it_is(opened: Open) -> None:
    async with opened() as session:
        await session.press("escape", "4")
        assert session.wanted()[:2] == ["next-token", "tokens"]
        assert set(session.wanted()[2:]) == {"ablation", "patching"}
        request = session.engine.requests[-1]
        want = next(want for want in request.wants if want.key == "ablation")
        session.engine.answer(request, only={"ablation": ablation(want, (12, 30))}, complete=False)
        await session.settle()
        assert "Ablation · ━━━───── 12/30 · heads" in session.screen_text()
        session.engine.answer(request)
        await session.settle()
        assert "12/30" not in session.screen_text()


async def test_a_sweep_waits_until_nothing_changes_and_leaves_no_hole(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscope.tui.request_scheduler.SETTLING", 600)  # the test says when
    async with opened() as session:
        app = session.app
        await session.press("escape", "4")
        app.look_at(app.state.with_edit(parse("scale mlp 2 1")))
        await session.settle()
        before = app.figures.shown("ablation")
        await session.press("full_stop")
        assert "ablation" not in session.wanted()
        app.editor.replace_all("The capital of Spain is")
        await session.settle()
        assert "ablation" not in session.wanted()
        session.engine.auto = False
        app.requests._settled()
        request = session.engine.requests[-1]
        want = next(want for want in request.wants if want.key == "ablation")
        session.engine.answer(request, only={"ablation": ablation(want, (0, 30))}, complete=False)
        await session.settle()
        assert app.figures.shown("ablation") is before
        session.engine.answer(request, only={"ablation": ablation(want, (1, 30))}, complete=False)
        await session.settle()
        assert app.figures.shown("ablation") is not before
