"""The axes that a pane declares say where the arrows and clicks move the cursor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmscope.draw import detect_render_options
from llmscope.tui.panes import pane_classes
from llmscope.tui.panes.pane import CURSOR, FigurePane
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO

STATE = replace(ViewState(), info=INFO, versus_prompt="B").move_to(layer=2, head=2)
OWN_MOVES = ("reader", "walkthrough", "walk-values", "walk-said")


@pytest.mark.parametrize("key", sorted(set(pane_classes()) - set(OWN_MOVES)))
def test_arrows_move_along_the_axes(key: str) -> None:
    pane: FigurePane = pane_classes()[key](detect_render_options())
    for axis, moved in (
        (pane.row_axis(STATE), pane.step(STATE, -1)),
        (pane.column_axis(STATE), pane.side(STATE, -1)),
    ):
        assert moved == (STATE.move(**{CURSOR[axis]: -1}) if axis in CURSOR else STATE)


def test_a_click_sets_the_axes_that_are_declared() -> None:
    heads = pane_classes()["heads"](detect_render_options())
    clicked = heads.point(STATE, {"head": 1, "position": 0})
    assert clicked == STATE.move_to(head=1)
    assert heads.point(STATE, {"component": 99}) == STATE
    assert heads.edit_here(STATE) == STATE.zero_head
