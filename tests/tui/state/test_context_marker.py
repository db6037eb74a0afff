"""The line that marks a context off: what the model is given, and where its tokens stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.engine.events import Token
from llmscope.tui.state.context_marker import MARK, Marked, context_end, marked, toggled
from tests.tui.acting import tokenize


@pytest.mark.parametrize(
    ("written", "text", "cut"),
    [
        ("a: b\n---\nc:", "a: b\nc:", 5),
        ("a\n\n---\n\nc", "a\n\n\nc", 3),
        ("a: b\nc:", "a: b\nc:", None),
        ("---\nc", "---\nc", None),  # nothing before it
        ("a\n---\n", "a\n---\n", None),  # nothing after it
        ("a\n---", "a\n---", None),
        ("a\n--- \nc", "a\n--- \nc", None),
        ("a ---\nc", "a ---\nc", None),
        ("a\n---\nb\n---\nc", "a\n---\nb\n---\nc", None),  # a text that parts its pieces so
        ("", "", None),
    ],
)
def test_what_is_a_mark(written: str, text: str, cut: int | None) -> None:
    assert marked(written) == Marked(text, cut)


@given(st.text(st.sampled_from("ab-\n"), max_size=40))
def test_the_mark_is_all_that_is_taken_away(written: str) -> None:
    found = marked(written)
    assert found.written == written
    assert (found.text == written) == (found.cut is None)


@given(st.text(st.sampled_from("ab \n"), max_size=40), st.integers(0, 40))
def test_a_mark_that_was_put_is_taken_out_again(text: str, place: int) -> None:
    place = min(place, len(text))
    put = toggled(text, place)
    if put != text:
        cut = context_end(put)
        assert cut is not None
        assert cut >= place
        assert text[:cut].endswith("\n")
        assert toggled(put, 0) == text


@given(st.text(st.sampled_from("ab \n"), min_size=1, max_size=40), st.data())
def test_tokens_stand_where_their_letters_do(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.none() | st.integers(0, len(text)))
    prompt = Marked(text, cut)
    for token, there in zip(tokenize(text), prompt.in_editor(tokenize(text)), strict=True):
        assert prompt.written[there.start : there.end].replace(MARK, "") == token.text


def test_a_token_across_the_mark_reaches_over_it() -> None:
    across = Token(0, 7, "b\n\nc", 3, 7)
    (there,) = Marked("a: b\n\nc", 5).in_editor([across])
    assert (there.start, there.end) == (3, 11)
