"""Going to a place by its number, and what the model knows there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmscope
from llmscope.tui.dialogs.go_to import GoToScreen, TypedPlace, examples, read_place
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO, tokenize
from tests.tui.conftest import Open
from tests.tui.real import answered, screen


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("15", (15, None, None)),
        (" 17 ", (17, None, None)),
        ("-1", (29, None, None)),
        ("15.4", (15, 4, None)),
        ("@3", (None, None, 3)),
        ("@-1", (None, None, 4)),
        ("2@0", (2, None, 0)),
        ("2.8 @0", (2, 8, 0)),
    ],
)
def test_numbers_name_a_place(text, place):
    info = replace(INFO, layers=30, heads=9)
    state = ViewState(info=info, tokens=tokenize("The capital of France is"))
    assert read_place(text, state) == TypedPlace(*place)


@given(layers=st.integers(1, 99), heads=st.integers(1, 99), tokens=st.integers(1, 99))
def test_the_examples_are_places_of_the_model(layers, heads, tokens):
    info = replace(INFO, layers=layers, heads=heads)
    state = ViewState(info=info, tokens=tokenize(" a" * tokens))
    for text in examples(state):
        assert isinstance(read_place(text, state), TypedPlace)


@pytest.mark.parametrize("text", ["99", "0.99", "@99", "-99", "x", "1..2", "@", "²"])
@pytest.mark.few(3)
async def test_a_wrong_place_stays_in_the_line_with_its_reason(opened: Open, text: str) -> None:
    async with opened() as session:
        before = session.app.state
        await session.press("escape", "g", "colon")
        await session.press(*[{"@": "at", ".": "full_stop", "-": "minus"}.get(c, c) for c in text])
        await session.press("enter")
        assert isinstance(session.app.screen, GoToScreen)
        said = session.screen_text()
        assert "there are 0 to" in said or "a number, such as" in said
        await session.press("escape")
        assert session.app.state == before


@given(st.text(max_size=12))
def test_any_text_is_a_place_or_a_reason(text):
    found = read_place(text, ViewState())
    assert isinstance(found, TypedPlace | str)


async def test_from_the_prompt_four_keys_show_what_it_knows_at_a_layer() -> None:
    scope = llmscope.load("builtin:sort")
    async with screen(scope, "CAB") as (app, pilot):
        await pilot.press("escape", "g", "colon", "1", "enter")
        await answered(app, pilot)
        shown = app.grid.panes["next-token"].shown
        scope.record("CAB")
        own = scope.look("logit-lens", mode="layer", layer=1, top_k=shown.want.focus.top_k)
        assert shown.figure.axes[0].labels == own.axes[0].labels
        assert shown.figure.values == pytest.approx(own.values)
        await pilot.press("escape", "d", "d")
        assert app.state.map_view.mode != "layer"
        app.grid.enter("next-token")
        await pilot.press("d", "d")
        await answered(app, pilot)
        assert app.grid.panes["next-token"].shown.want.lens == "next-token"
