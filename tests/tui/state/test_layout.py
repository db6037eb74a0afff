"""Where panes are: they fill the grid, and the rows go to those that can use them."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.draw import RenderOptions
from llmscope.tui.panes import pane_classes
from llmscope.tui.state.layout import (
    BORDER,
    LEAST,
    LINE,
    Area,
    Arrangement,
    Layout,
    UsefulRows,
    areas,
    reachable_panes,
)
from llmscope.tui.state.workspaces import WORKSPACES, Workspace

USEFUL = st.builds(UsefulRows, st.integers(1, 12), st.none() | st.integers(12, 50))
SHARES = st.dictionaries(st.sampled_from("abcde"), st.floats(0.01, 0.99))


def overlap(one: Area, other: Area) -> bool:
    beside = one.x + one.width <= other.x or other.x + other.width <= one.x
    below = one.y + one.height <= other.y or other.y + other.height <= one.y
    return not (beside or below)


@given(
    st.sampled_from(("small", "medium", "wide")),
    st.integers(1, 5),
    st.integers(80, 220),
    st.integers(5 * LEAST, 60),
    st.fixed_dictionaries(dict.fromkeys("abcde", USEFUL)),
    SHARES,
    st.none() | st.floats(0.01, 0.99),
    st.sets(st.sampled_from("bcde")),
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 20)),
    st.sampled_from(("", *"abcde")),
)
def test_panes_fill_the_grid_and_never_overlap(
    layout, count, width, height, rows, heights, main, folded, messages, focused
):
    panes = "abcde"[:count]
    room = height + LINE * len(folded)
    arrangement = Arrangement((), heights=heights, main=main)
    found = areas(
        *(layout, panes, (width, room), rows, arrangement, folded, messages), focused=focused
    )
    assert set(found) == set(panes)
    assert sum(area.width * area.height for area in found.values()) == width * room
    assert not any(overlap(one, other) for one, other in combinations(found.values(), 2))
    assert all(one.x >= 0 and one.x + one.width <= width for one in found.values())
    assert all(one.y >= 0 and one.y + one.height <= room for one in found.values())
    assert min(area.height for area in found.values()) >= LINE


def test_a_message_has_its_rows_where_the_figure_above_needs_none_of_them():
    rows = {"a": UsefulRows(8, 30), "b": UsefulRows()}

    def tall(room: int, **messages: int) -> tuple[int, ...]:
        panes, free = ("a", "b"), Arrangement(())
        found = areas("small", panes, (80, room), rows, free, {"b"}, messages)
        return found["a"].height, found["b"].height

    assert tall(13, b=1) == (10, 3)
    assert tall(13, b=3) == (8, 5), "the figure keeps six rows"
    assert tall(13, b=9) == (8, 5)
    assert tall(13, a=1, b=9) == (3, 10), "a message above needs no more than its own rows"
    assert tall(13, a=3, b=2) == (9, 4)


@given(st.integers(8, 60), st.sampled_from("ab"), USEFUL, USEFUL)
def test_the_focused_pane_of_a_small_screen_gets_the_rows(height, focused, one, other):
    (beside,) = set("ab") - {focused}
    rows = {focused: one, beside: other}
    found = areas("small", ("a", "b"), (80, height), rows, Arrangement(()), focused=focused)
    wanted = height if one.most is None else one.most + BORDER
    assert found[focused].height >= min(wanted, height - max(LEAST, height // 3))
    sized = Arrangement((), heights={"a": 0.5})
    unlike = areas("small", ("a", "b"), (80, height), rows, sized, focused=focused)
    assert unlike == areas("small", ("a", "b"), (80, height), rows, sized), "as the user sized them"


def test_the_shortest_messages_are_whole_first():
    rows = dict.fromkeys("abcd", UsefulRows())
    messages = {"b": 4, "c": 2, "d": 1}
    found = areas(
        "small", tuple("abcd"), (80, 20), rows, Arrangement(()), frozenset("bcd"), messages
    )
    assert [found[key].height for key in "abcd"] == [8, 5, 4, 3]
    assert [found[key].y for key in "abcd"] == [0, 8, 13, 17]


def shown(
    workspace: Workspace, layout: Layout, size: tuple[int, int], layers: int
) -> tuple[dict[str, Area], dict[str, UsefulRows]]:
    rows = {key: cls(RenderOptions()).useful_rows(layers) for key, cls in pane_classes().items()}
    arrangement = Arrangement.of(workspace)
    panes = reachable_panes(layout, workspace, arrangement)
    return areas(layout, panes, size, rows, arrangement), rows


@pytest.mark.parametrize("workspace", WORKSPACES, ids=lambda one: one.name)
@pytest.mark.parametrize(("layout", "size"), [("medium", (120, 33)), ("wide", (200, 53))])
@pytest.mark.parametrize("layers", [3, 12, 30])
def test_the_main_figure_gets_the_rows_that_it_can_use(workspace, layout, size, layers):
    found, rows = shown(workspace, layout, size, layers)
    spine = found[workspace.spine]
    most = rows[workspace.spine].most
    assert spine.height >= min(size[1], size[1] if most is None else most + BORDER)


@pytest.mark.parametrize("layers", [3, 12, 30])
def test_the_answer_shows_its_parts_and_heads_rather_than_unlikely_candidates(layers):
    """At 200x60 the list of candidates had 29 rows and the grid of heads 4 layers."""
    answer = next(one for one in WORKSPACES if one.name == "answer")
    found, _ = shown(answer, "wide", (200, 53), layers)
    assert found["attribution"].height == 53
    assert found["attribution-heads"].height >= min(layers + 8, 30)
    assert found["next-token"].height <= 24
    found, _ = shown(answer, "medium", (120, 33), layers)
    assert found["attribution-heads"].height >= found["next-token"].height
