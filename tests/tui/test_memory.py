"""A head of memory, found on the screen and switched off there, as docs/tour.md tells."""

from __future__ import annotations

import numpy as np

import llmscope
from tests.tui.real import answered, screen

PROMPT = "cat dax, sun wug, hat fep, cat"


async def test_a_head_of_memory_is_found_and_switched_off() -> None:
    scope = llmscope.load("builtin:town-memory")
    async with screen(scope, PROMPT) as (app, pilot):

        def figure(pane: str):
            shown = app.figures.shown(pane)
            assert shown is not None
            return shown.figure

        await pilot.press("escape")
        await answered(app, pilot)
        assert figure("next-token").axes[0].labels[0] == " dax"
        await pilot.press("4")
        await answered(app, pilot)
        ablation = figure("ablation")
        assert ablation.verdict.status == "verified"
        assert np.unravel_index(np.nanargmin(ablation.values), ablation.values.shape) == (0, 0)
        await pilot.press("up", "up")
        await answered(app, pilot)
        assert (app.state.focus.layer, app.state.focus.head) == (0, 0)
        await pilot.press("1")
        await answered(app, pilot)
        attention = figure("attention")
        assert attention.extra["rule"] == "gated delta rule"
        last = attention.values[-1]
        assert attention.axes[1].labels[int(np.nanargmax(np.abs(last)))] == " dax"
        await pilot.press("4")
        await answered(app, pilot)
        await pilot.press("x")
        await answered(app, pilot)
        assert [str(listed.edit) for listed in app.state.edits] == ["zero head 0.0"]
        await pilot.press("1")
        await answered(app, pilot)
        likeliest = figure("next-token")
        assert likeliest.axes[0].labels[0] != " dax"
        await pilot.press("ctrl+z")
        await answered(app, pilot)
        assert figure("next-token").axes[0].labels[0] == " dax"
