"""What the map asks for."""

from __future__ import annotations

import pytest
from textual.geometry import Size

from llmscope.draw.grid.layout import NARROWEST_TEXT, lay_out
from llmscope.engine.events import Token
from llmscope.tui.panes.map import visible_span
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.views import MAP_VIEWS
from tests.thinned import at_sizes
from tests.tui.acting import INFO
from tests.tui.conftest import Open


@pytest.mark.parametrize("size", at_sizes([(80, 24), (120, 40), (200, 60)], (80, 24)))
async def test_a_letter_asks_once_in_each_view(opened: Open, size: tuple[int, int]) -> None:
    """What is asked for does not depend on how many columns the figure before had."""
    async with opened(*size) as session:
        for index in session.app.grid.panes["map"].offered_views(session.app.state):
            view = MAP_VIEWS[index]
            session.app.editor.replace_all("a b")
            await session.press("escape")
            assert session.app.state.map_view == view
            for letters in (" c", " d", " e f g h i j k l m n o p q r s t u v w x y z" * 3, " c"):
                asked = len(session.engine.requests)
                session.app.editor.replace_all(session.app.text + letters)
                await session.settle()
                assert len(session.engine.requests) == asked + 1, (view.title, letters)
                want = next(one for one in session.engine.requests[-1].wants if one.key == "map")
                if want.focus.span is not None:  # as many as fit, and one for the next letter
                    columns = session.app.grid.panes["map"].size.width
                    assert -columns - 1 <= want.focus.span[0] < 0
            await session.press("d", "d")


async def test_in_the_middle_of_a_prompt_as_many_columns_are_asked_for(opened: Open) -> None:
    async with opened(prompt=" ".join("abcdefghijklmnopqrstuvwxyz" * 8)) as session:
        await session.press("escape", "d", "d")
        session.app.look_at(session.app.state.move_to(position=100))
        await session.settle()
        want = next(want for want in session.engine.requests[-1].wants if want.key == "map")
        start, stop = want.focus.span
        assert start <= 100 < stop
        assert stop - start <= session.app.grid.panes["map"].size.width


@pytest.mark.parametrize("height", range(8, 40))
@pytest.mark.parametrize("narrowest", [1, NARROWEST_TEXT])
def test_all_columns_in_view_are_asked_for(height: int, narrowest: int) -> None:
    """Also where a map is full to its last row, which leaves a column less to a longer prompt."""
    for count in (1, 3, 7, 10, 49, 60, 70, 300):
        tokens = tuple(Token(at, at, "a", at, at + 1) for at in range(count))
        state = ViewState.opening(None).loaded(INFO).with_tokens(tokens)
        layers = ["embed", *map(str, range(INFO.layers))]
        for width in (60, 81):
            for position in {0, count // 2, count - 1}:
                at = state.move_to(position=position)
                seen = lay_out(
                    *(width, height, layers, count, (at.focus.layer + 1, position)),
                    corner="layer",
                    foot="surprisal",
                    narrowest=narrowest,
                ).columns
                start, stop = visible_span(at, Size(width, height), narrowest, "surprisal")
                if start < 0:
                    start, stop = max(0, count + start), count
                assert start <= seen.start
                assert stop >= seen.stop
