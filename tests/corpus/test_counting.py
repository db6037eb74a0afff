"""Which tokens of a prompt count."""

import pytest

from llmscope.corpus.counting import CONTENT, Counting
from llmscope.errors import ScopeError

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("counting", "places"),
    [
        (Counting(), [0, 1, 2, 3, 4]),
        (Counting(skip=2), [2, 3, 4]),
        (Counting(last=False), [0, 1, 2, 3]),
        (Counting(special=False), [1, 2, 4]),
        (Counting(skip=2, last=False, special=False), [2]),
        (CONTENT, [1, 2, 4]),
        (Counting(skip=9), []),
    ],
)
def test_places_that_count(counting, places):
    special = [True, False, False, True, False]
    assert counting.places_among(special) == places
    if counting.special:
        assert list(counting.places(5)) == places


@pytest.mark.parametrize("counting", [Counting(), Counting(3), Counting(3, last=False), CONTENT])
def test_the_shortest_prompt_has_one_token_that_counts(counting):
    assert len(counting.places(counting.shortest)) == 1
    assert not len(counting.places(counting.shortest - 1))
    assert f"each needs {counting.shortest} tokens or more" in str(counting.nothing_counts())


def test_a_rule_that_leaves_nothing_is_refused():
    Counting(skip=2, length=4, last=False).check()
    with pytest.raises(ScopeError, match="of prompts of 3 tokens, skipping the first 2 leaves"):
        Counting(skip=2, length=3, last=False).check()
