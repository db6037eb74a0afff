from __future__ import annotations

from dataclasses import replace

from llmscope.figure import Focus
from llmscope.tui.state.token_measures import MEASURES, offers_measure
from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import HEADS, INFO, LAYERS, tokenize

TOKENS = tokenize("The capital of France is")


def ready(focus: Focus | None = None) -> ViewState:
    return ViewState.opening(focus).loaded(INFO).with_tokens(TOKENS)


def test_starts_on_the_last_layer_and_token() -> None:
    state = ready()
    assert (state.focus.layer, state.focus.position) == (LAYERS - 1, len(TOKENS) - 1)
    assert state.following
    assert state.requested_position == -1


def test_a_given_focus_counts_from_the_end_where_negative() -> None:
    state = ready(Focus(layer=-3, head=-1, position=-2))
    assert (state.focus.layer, state.focus.head) == (LAYERS - 3, HEADS - 1)
    assert state.focus.position == len(TOKENS) - 2
    assert not state.following


def test_the_cursor_stays_inside() -> None:
    state = ready().move(layer=100, head=-100, position=-100)
    assert (state.focus.layer, state.focus.head, state.focus.position) == (LAYERS - 1, 0, 0)


def test_a_layer_without_attention_has_as_many_heads_as_maps() -> None:
    maps = (3 * HEADS, *(0,) * (LAYERS - 1))
    info = replace(INFO, maps=maps)
    state = ViewState.opening(Focus(layer=0, head=-1)).loaded(info).with_tokens(TOKENS)
    assert state.focus.head == 3 * HEADS - 1
    assert state.move(head=1).focus.head == 3 * HEADS - 1
    down = state.move(layer=1)
    assert (down.focus.layer, down.focus.head) == (1, HEADS - 1)
    assert down.move_to(layer=0, head=HEADS + 1).focus.head == HEADS + 1
    assert [info.heads_at(layer) for layer in (0, 1, -1, -LAYERS)] == [
        *(3 * HEADS, HEADS, HEADS, 3 * HEADS)
    ]


def test_the_text_is_coloured_by_attention_only_where_there_is_some() -> None:
    info = replace(INFO, maps=(HEADS, *(0,) * (LAYERS - 1)))
    state = ViewState.opening(Focus(layer=0)).loaded(info).with_tokens(TOKENS)
    offered = {one.name for one in MEASURES if offers_measure(state, one)}
    assert offered == {"surprisal", "entropy"}
    below = state.move(layer=1)
    assert {one.name for one in MEASURES if offers_measure(below, one)} == {
        *("surprisal", "entropy", "attention", "head")
    }


def test_a_put_cursor_stays_while_the_text_after_it_grows() -> None:
    state = ready().move_to(position=1)
    text = "The capital of France is"
    state = state.edited(len(text)).with_tokens(tokenize(text + " Paris."))
    assert state.focus.position == 1
    assert state.requested_position == 1


def test_a_following_cursor_goes_to_the_new_last_token() -> None:
    state = ready().edited(24).with_tokens(tokenize("The capital of France is Paris"))
    assert state.focus.position == 5


def test_a_cursor_whose_token_was_edited_follows_again() -> None:
    state = ready().move_to(position=3).edited(unchanged=6)
    assert state.following


def test_going_to_the_last_token_follows_again() -> None:
    assert ready().move_to(position=1).move_to(position=len(TOKENS) - 1).following


def test_a_candidate_is_forgotten_on_another_token_unless_pinned() -> None:
    aimed = ready().set_target(7, pinned=False)
    assert aimed.move(position=-1).target is None
    assert aimed.set_target(7, pinned=True).move(position=-1).target == 7
    assert aimed.edited(3).target is None
    assert aimed.set_target(7, pinned=True).edited(3).target == 7


def test_a_neuron_is_forgotten_on_another_layer() -> None:
    assert ready().move_to(neuron=3).move(layer=-1).focus.neuron is None
    assert ready().move_to(neuron=3).move(head=1).focus.neuron == 3


def test_nothing_moves_before_the_model_is_known() -> None:
    state = ViewState().move(layer=1, head=1, position=1)
    assert state == ViewState()
