"""Titles of panes: the measure stays, however narrow the pane is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmscope.lenses.heads import TITLES
from llmscope.tui.panes.lens import HeadsPane
from llmscope.tui.panes.map import MapPane
from llmscope.tui.panes.titles import JOINT, VERDICT_MARKS, fitting_title
from tests.tui.conftest import Open

RIGHT = 36
"""The width of a pane on the right of a terminal of 100 columns; of 120 columns it is 44."""
MAIN = 56
"""The width of a main figure in a terminal of 100 columns."""


@pytest.mark.parametrize(
    ("width", "title"),
    [
        (50, ("MLP · layer 3 · strongest neurons", " · verified")),
        (40, ("MLP · layer 3 · strongest neurons", " ✓")),
        (30, ("MLP · layer 3 · neurons", " ✓")),
        (22, ("MLP · L3 · neurons", " ✓")),
        (8, ("MLP", " ✓")),
    ],
)
def test_a_title_never_loses_its_verdict(width: int, title: tuple[str, str]) -> None:
    assert fitting_title("MLP · layer 3 · strongest neurons", "verified", width) == title


@pytest.mark.parametrize(
    ("width", "heading", "shown"),
    [
        (RIGHT, "Attribution · logit of ‹ black› · by head", "Attrib. of ‹ black› · by head"),
        (44, "Attribution · logit of ‹ black› · by head", "Attrib. · logit of ‹ black› · by head"),
        (
            44,
            "Saliency · gradient × input · log p of ‹ black›",
            "Saliency · grad × input · log p ‹ black›",
        ),
        (RIGHT, "Attention · layer 5 mean of 4 heads", "Attention · L5 mean of 4 heads"),
        (
            RIGHT,
            "Attention · layer 5 head 0 · weighted by values",
            "Attention · head 5.0 · by values",
        ),
        (
            RIGHT,
            "Neuron 52 of layer 5 · what it promotes and suppresses",
            "Neuron 52 of layer 5 · promotes",
        ),
        (RIGHT, "MLP · change · layer 5 · strongest neurons", "MLP · change · layer 5 · neurons"),
        (
            MAIN,
            "Ablation · heads set to their mean · Δ logit of ‹ black›",
            "Ablation · heads to mean · Δ logit of ‹ black›",
        ),
    ],
)
def test_words_get_shorter_before_a_part_is_lost(width, heading, shown):
    found, _ = fitting_title(heading, "verified", width)
    assert found == shown


@pytest.mark.parametrize("mode", HeadsPane.views)
@pytest.mark.parametrize("width", [RIGHT, MAIN, 68, 76])
def test_a_grid_of_heads_always_names_its_measure(mode, width):
    """Sink and entropy were both called "Heads" in a terminal of 120 columns."""
    found, _ = fitting_title(TITLES[mode], "verified", width)
    assert mode.split("-")[0] in found
    assert JOINT in found


@given(
    st.lists(st.text("ab ‹›:·é漢", max_size=20), min_size=1, max_size=5),
    st.sampled_from(sorted(VERDICT_MARKS)),
    st.integers(1, 120),
)
def test_any_title_fits_or_is_its_first_part(parts, status, width):
    heading, word = fitting_title(JOINT.join(parts), status, width)
    assert word in (f"{JOINT}{status}", f" {VERDICT_MARKS[status]}")
    assert cell_len(heading + word) <= width or JOINT not in heading


async def test_the_map_names_its_target(opened: Open) -> None:
    async with opened(120, 40) as session:
        await session.press("escape", "d", "d")
        assert session.app.state.map_view.mode == "target"
        await session.settle()
        assert "Map · probability of ‹" in session.screen_text()


async def test_the_first_panes_say_what_they_wait_for(opened: Open) -> None:
    async with opened(auto=False) as session:
        session.engine.load()
        await session.settle()
        assert session.engine.requests
        assert "the first pass of this prompt" in session.screen_text()
        session.engine.answer(session.engine.requests[-1])
        await session.settle()
        assert "first pass" not in session.screen_text()
        session.app.editor.replace_all("")
        await session.settle()
        assert "first pass" not in session.screen_text(), "nothing was asked for"


async def test_nothing_is_awaited_after_a_refusal(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MapPane, "unfinished", lambda self, shown: True)
    async with opened() as session:
        pane = session.app.grid.panes["map"]
        assert str(pane.border_title).endswith("…"), "more is to come"
        assert pane.shown is not None
        pane.awaits = False
        pane.present(session.app.state, pane.shown, stale=True)
        assert not str(pane.border_title).endswith("…")
