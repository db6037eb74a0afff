"""Alignment of two prompts, against the longest common subsequence of a plain table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.record.compare.alignment import align

# Few letters, so that there is much to align and there are many ties.
labels = st.lists(st.sampled_from(["a", "b", " c", "\n"]), max_size=14)


def longest(one, other):
    """The length of a longest common subsequence, from the recurrence as it is written."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one, 1):
        for j, right in enumerate(other, 1):
            both = table[i - 1][j - 1] + 1 if left == right else 0
            table[i][j] = max(table[i - 1][j], table[i][j - 1], both)
    return table[-1][-1]


@given(labels, labels)
@settings(max_examples=300, deadline=None)
def test_it_is_a_longest_common_subsequence(one, other):
    pairs = align(one, other)
    assert all(one[a] == other[b] for a, b in pairs)
    for side in zip(*pairs, strict=True):
        assert list(side) == sorted(set(side))
    assert len(pairs) == longest(one, other)


@given(labels, labels)
@settings(max_examples=200, deadline=None)
def test_swapping_the_two_swaps_the_pairs(one, other):
    assert align(other, one) == tuple((b, a) for a, b in align(one, other))


@given(labels, labels, labels)
@settings(max_examples=100, deadline=None)
def test_a_common_beginning_and_a_common_end_stay_together(head, one, other):
    start = align(head + one, head + other)
    assert start[: len(head)] == tuple((place, place) for place in range(len(head)))
    # Where the two differ from the first token on, nothing else can have its end.
    end = align(["x", *one, *head], ["y", *other, *head])
    back = [(1 + len(one) + i, 1 + len(other) + i) for i in range(len(head))]
    assert list(end[len(end) - len(head) :]) == back


def test_a_long_pair_is_as_long_as_the_table_says():
    draw = np.random.default_rng(3)
    one, other = (list(map(str, draw.integers(0, 40, count))) for count in (300, 211))
    pairs = align(one, other)
    assert len(pairs) == longest(one, other)
    assert all(one[a] == other[b] for a, b in pairs)


@pytest.mark.parametrize(
    ("one", "other", "pairs"),
    [
        ([], ["a"], ()),
        (["a"], ["b"], ()),
        (["He", " sat"], ["He", " sat"], ((0, 0), (1, 1))),
        # Text is text: a word with and one without its blank are two.
        (["bank"], [" bank"], ()),
        (["by", " the", " bank"], [" the", " big", " bank"], ((1, 0), (2, 2))),
    ],
)
def test_small_cases(one, other, pairs):
    assert align(one, other) == pairs


def test_parts_of_characters_are_held_against_whole_stretches_of_them():
    """Half a letter is in every word of its alphabet."""
    russian, other = ["\\xd0", "\\xb4", " \\xd0", "\\xbe"], ["\\xd0", "\\xb4", " \\xd0", "\\xbc"]
    assert align(russian, other) == ((0, 0), (1, 1))
    assert align(["\\xd0", "\\xb4"], ["\\xd0", "\\xb5"]) == ()
    # What stands around them is aligned all the same, and so is text that only looks like bytes.
    assert align(["a", "\\xd0", "\\xb4", "b"], ["a", "\\xd0", "\\xb5", "b"]) == ((0, 0), (3, 3))
