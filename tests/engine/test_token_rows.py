"""The tokens of each new prompt: those of a fresh start, and the shared ones the same objects."""

from hypothesis import given
from hypothesis import strategies as st

from llmscope.engine.events import tokens_of_prompt
from llmscope.engine.token_rows import TokenRows
from llmscope.record.capture.recording import Prompt

PROMPT = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.booleans(), st.integers(0, 2)),
    max_size=12,
)


def prompt_of(rows, spans=True):
    ids, labels, special, places = zip(*rows, strict=True) if rows else ((), (), (), ())
    offsets = tuple((place, place + 1) for place in places) if spans else ()
    return Prompt(ids, labels, special, offsets)


@given(st.lists(st.tuples(PROMPT, st.booleans()), max_size=6))
def test_they_are_those_of_the_prompt(walk):
    tokens = TokenRows()
    for rows, spans in walk:
        prompt = prompt_of(rows, spans)
        assert tokens.of(prompt) == tokens_of_prompt(prompt)


def test_a_letter_makes_one_token():
    rows = [(at % 5, "a", False, at % 3) for at in range(300)]
    tokens = TokenRows()
    before, after = tokens.of(prompt_of(rows[:-1])), tokens.of(prompt_of(rows))
    assert all(one is other for one, other in zip(before, after, strict=False))
    assert len(after) == 300
