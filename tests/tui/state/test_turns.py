"""Turns follow as their text is edited, as long as the chat template's own words stay."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llmscope.models.tokenizer.conversation import TurnSpan
from llmscope.tui.state.turns import Turns

TEXT = "<s>Be kind.<u>Hi there<a>Yo<t>18<a>"
SPANS = (
    TurnSpan(3, 11, "system", 1),
    TurnSpan(14, 22, "user", 2),
    TurnSpan(25, 27, "assistant", 3),
    TurnSpan(30, 32, "tool", 4),
    TurnSpan(35, 35, "assistant", 5),
)
TURNS = Turns(TEXT, SPANS)


def parts(turns: Turns) -> list[tuple[str, str]]:
    return [(one.role, turns.text[one.start : one.end]) for one in turns.spans]


def test_a_turn_grows_and_those_after_it_move() -> None:
    found = TURNS.edited(TEXT.replace("Hi there", "Hi you there"))
    assert found is not None
    assert parts(found) == [
        ("system", "Be kind."),
        ("user", "Hi you there"),
        ("assistant", "Yo"),
        ("tool", "18"),
        ("assistant", ""),
    ]


def test_what_is_typed_at_the_end_belongs_to_the_last_turn() -> None:
    found = TURNS.edited(f"{TEXT}Well")
    assert found is not None
    assert parts(found)[-1] == ("assistant", "Well")
    again = found.edited(TEXT)
    assert again == TURNS


def test_turns_are_dropped_with_the_words_of_the_template() -> None:
    for text in ("", "another", TEXT[1:], TEXT.replace("<t>", ""), TEXT.replace("Yo<t>1", "x")):
        assert TURNS.edited(text) is None


@given(st.integers(0, len(SPANS) - 1), st.data())
def test_any_edit_within_a_turn_leaves_the_others(at: int, data: st.DataObject) -> None:
    span = SPANS[at]
    start = data.draw(st.integers(span.start, span.end))
    end = data.draw(st.integers(start, span.end))
    text = TEXT[:start] + data.draw(st.text("<a>Yo \n") | st.text()) + TEXT[end:]
    found = TURNS.edited(text)
    assert found is not None
    assert found.text == text
    before, after = parts(TURNS), parts(found)
    assert [role for role, _ in after] == [role for role, _ in before]
    assert sum(one != other for one, other in zip(before, after, strict=True)) <= 1
    frames = [TEXT[a.end : b.start] for a, b in pairwise(SPANS)]
    assert frames == [text[a.end : b.start] for a, b in pairwise(found.spans)]
