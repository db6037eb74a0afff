"""The logit lens on the real model: an answer that rises, and cells that nobody sees."""

from __future__ import annotations

import asyncio

import pytest

from llmscope.record.analysis import logit_lens
from llmscope.tui.state.layout_state import LayoutState
from llmscope.tui.user_state import UserState
from tests.tui.real import answered, screen

pytestmark = pytest.mark.xdist_group("smollm2")
PROMPT = "When Mary and John went to the store, John gave a drink to"


def test_the_answer_rises_in_the_depth(smollm2):
    recording = smollm2.record(PROMPT, fresh=True)
    mary = smollm2.encode(" Mary", special_tokens=False).ids[0]
    figure = smollm2.look("logit-lens", recording=recording, mode="target", target=mary)
    rising = figure.values[:, -1]
    assert figure.extra["ranks"][-1, -1] == 1
    assert rising[-1] == pytest.approx(0.92, abs=0.01)
    assert rising[:20].max() < 0.01
    assert rising[25:].min() > 10 * rising[:20].max()


@pytest.mark.slow
async def test_a_long_prompt_costs_the_cells_in_sight_and_layers_cost_none(smollm2, monkeypatch):
    prompt = "the boat went down the river past a mill and seven houses of stone " * 38
    assert len(smollm2.encode(prompt)) >= 512
    cells: list[tuple[int, int]] = []
    real = logit_lens._read

    def spy(some, *how):
        cells.extend((cell.layer, cell.column) for cell in some)
        return real(some, *how)

    monkeypatch.setattr(logit_lens, "_read", spy)
    user = UserState(kept=LayoutState(view=("logit-lens", "top")))
    async with screen(smollm2, prompt, user=user) as (app, pilot):
        pane = app.grid.panes["map"]
        start, end = pane.want(app.state).focus.span
        sight = range(len(app.state.tokens) + start, len(app.state.tokens) + end)
        assert 0 < len(sight) <= pane.size.width // 4
        async with asyncio.timeout(60):
            while len(cells) < 31 * len(sight):  # it comes column by column
                await asyncio.sleep(0.05)
        assert sorted(cells) == [(layer, column) for layer in range(31) for column in sight]
        cells.clear()
        await pilot.press("escape")
        for _ in range(10):
            await pilot.press("up")
        await answered(app, pilot)
        assert app.state.focus.layer == 19
        assert cells == []
