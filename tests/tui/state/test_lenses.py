"""The learned lens of a view state."""

from __future__ import annotations

from dataclasses import replace

from llmscope.tui.state.view_state import ViewState
from tests.tui.acting import INFO

TWO = replace(INFO, lenses=("jacobian", "tuned"))


def test_the_next_lens_goes_round_the_known_and_chosen_ones_and_the_logit_lens() -> None:
    state = ViewState().loaded(TWO).with_lens("a.pt").with_lens(None)
    found = []
    for _ in range(4):
        state = state.with_next_lens()
        found.append(state.translator)
    assert found == ["jacobian", "tuned", "a.pt", None]
    assert ViewState().loaded(INFO).with_next_lens().translator is None


def test_a_lens_that_is_known_is_not_chosen_beside_them() -> None:
    state = ViewState().loaded(TWO).with_lens("tuned")
    assert (state.translator, state.chosen_lenses) == ("tuned", ())
    state = state.with_lens("a.pt").with_lens("a.pt")
    assert state.lenses == ("jacobian", "tuned", "a.pt")


def test_another_model_forgets_the_lens_and_an_adapter_does_not() -> None:
    state = ViewState().loaded(TWO).with_lens("a.pt")
    assert state.loaded(replace(TWO, adapter="lora")).translator == "a.pt"
    other = state.loaded(replace(TWO, spec="another", translator="b.pt"))
    assert (other.translator, other.chosen_lenses) == ("b.pt", ())


def test_edits_name_the_lens_chosen_last_or_given() -> None:
    assert ViewState().lens_of_edits is None
    state = ViewState().loaded(TWO)
    assert state.lens_of_edits is None
    assert state.loaded(replace(TWO, spec="x", translator="b.pt")).lens_of_edits == "b.pt"
    assert state.with_lens("a.pt").with_lens(None).lens_of_edits == "a.pt"


def test_the_lenses_chosen_last_are_compared_first() -> None:
    state = ViewState().loaded(TWO)
    assert state.compared_lenses == ("jacobian", "tuned")
    assert state.with_lens("a.pt").compared_lenses == ("a.pt", "jacobian")
    three = state.with_lens("a.pt").with_lens("b.pt").with_lens("c.pt")
    assert three.compared_lenses == ("b.pt", "c.pt")
    assert ViewState().compared_lenses == ()
