"""The split by group, and what leaks across it."""

import itertools
import random

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.jobs.fit_direction.pairs import LabelledText
from llmscope.jobs.fit_direction.split import ALIKE, RUN, choose_test, leak, nearly_same


def pairs(groups, each=3):
    found = []
    for line, (group, number) in enumerate(itertools.product(range(groups), range(each)), 1):
        words = random.Random(line).sample("abcdefghijklmnopqrstuvwxyz", 12)
        for positive in (True, False):
            text = f"{''.join(words)} {'good' if positive else 'bad'} {number}"
            found.append(LabelledText(text, positive, f"g{group}", line))
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_groups_stay_on_one_side(seed, share):
    some = pairs(20)
    test = choose_test(some, "group", share, seed)
    sides = {}
    for one, held in zip(some, test, strict=True):
        sides.setdefault(one.group, set()).add(bool(held))
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == round(20 * share)
    assert not leak(some, test)


def test_labels_are_spread_where_groups_have_one_label():
    some = [LabelledText(f"text {at}", at < 15, f"g{at}", at + 1) for at in range(30)]
    for seed in range(5):
        test = choose_test(some, "group", 0.2, seed)
        assert sum(one.positive for one, held in zip(some, test, strict=True) if held) == 3


def test_a_random_split_leaks_and_is_counted():
    some = pairs(6, each=5)
    test = choose_test(some, "random", 0.3, 0)
    found = leak(some, test)
    train = {one.group for one, held in zip(some, test, strict=True) if not held}
    assert found.groups == sum(
        one.group in train for one, held in zip(some, test, strict=True) if held
    )
    assert found.groups == test.sum() == 18
    assert str(found).startswith("leaks: 18 test texts are of groups that were trained on")


def test_the_split_of_the_file_is_taken_and_its_leak_told():
    some = [
        LabelledText("one two three", True, "a", 1, "train"),
        LabelledText("four five six", False, "b", 2, "train"),
        LabelledText("seven eight nine", True, "a", 3, "test"),
        LabelledText("Four, five  SIX!", False, "c", 4, "test"),
    ]
    test = choose_test(some, "file", 0.3, 0)
    assert test.tolist() == [False, False, True, True]
    found = leak(some, test)
    assert (found.groups, found.texts) == (1, 1)
    with pytest.raises(ScopeError, match="no column split"):
        choose_test(pairs(3), "file", 0.3, 0)


def test_a_set_of_one_label_is_refused():
    some = [LabelledText("a", True, "a", 1, "train"), LabelledText("b", False, "a", 2, "test")]
    with pytest.raises(ScopeError, match="the test set has no texts of both labels"):
        choose_test(some, "file", 0.3, 0)


def test_near_copies_are_those_of_a_comparison_of_all_pairs():
    chance = random.Random(1)
    words = ["river", "stone", "market", "yellow", "house", "walks", "under", "bridge", "seven"]
    base = [" ".join(chance.choices(words, k=12)) for _ in range(40)]
    others = []
    for text in base:
        changed = text.split()
        for _ in range(chance.randint(0, 4)):
            changed[chance.randrange(12)] = chance.choice(words)
        others.append(" ".join(changed))

    def runs(text):
        return {text[at : at + RUN] for at in range(len(text) - RUN + 1)}

    expected = [
        any(len(runs(a) & runs(b)) / len(runs(a) | runs(b)) >= ALIKE for b in others) for a in base
    ]
    assert 5 < sum(expected) < 35
    assert nearly_same(base, others) == expected
    assert np.array(nearly_same(base, base)).all()
    assert nearly_same(["!?"], ["?!"]) == [False]
