"""Tables and statistics of made-up activations, exactly against plain loops."""

import numpy as np
import pytest

from llmscope.jobs.examples.collector import Collector, Sizes, _key, priorities
from llmscope.jobs.examples.entries import Entries

UNITS, SIZES = 5, Sizes(top=4, bottom=3, random=6, before=2, after=1)


def prompts(seed, count=30):
    """Yield lines with ids, what counts and activations; every value occurs several times."""
    random = np.random.default_rng(seed)
    for line in range(1, count + 1):
        length = int(random.integers(1, 12))
        values = random.integers(0, 8, (length, UNITS)).astype(np.float32) / 4
        values[:, 4] = 0  # a unit that is never active
        yield line, list(range(length)), random.random(length) < 0.8, values


def sparse(values):
    tokens, units = values.nonzero()
    return Entries(tokens, units, values[tokens, units], values.shape[1])


def collected(some, kind="feature", place="5.resid_post", sizes=SIZES):
    collector = Collector(kind, place, [10, 11, 12, 13, 14], sizes)
    for line, ids, counted, values in some:
        entries = sparse(values) if kind == "feature" else Entries.of_all(values)
        collector.add(line, ids, counted, entries)
    return collector


@pytest.mark.parametrize("kind", ["feature", "neuron"])
def test_examples_are_those_of_a_plain_loop(kind):
    some = list(prompts(0))
    if kind == "neuron":
        some = [(line, ids, counted, values - 1) for line, ids, counted, values in some]
    place = "5.resid_post" if kind == "feature" else "5.neurons"
    collector = collected(some, kind, place)
    for at in range(UNITS):
        flat = [
            (float(values[token, at]), line, token)
            for line, _, counted, values in some
            for token in range(len(values))
            if counted[token] and (values[token, at] or kind == "neuron")
        ]
        found = collector.examples(at, str)

        def best(sign, flat=flat):
            of_line = {}
            for value, line, token in flat:
                new = (-sign * value, line, token)
                of_line[line] = min(of_line.get(line, new), new)
            return [(line, token) for _, line, token in sorted(of_line.values())]

        assert [(e.line, e.position) for e in found.top] == best(1)[:4]
        assert [(e.line, e.position) for e in found.bottom] == best(-1)[:3]
        numbers = {
            (line, token): priorities(
                _key(0, place), np.array([10 + at]), line, np.array([token])
            ).item()
            for _, line, token in flat
        }
        drawn = sorted(numbers, key=numbers.__getitem__, reverse=True)[:6]
        assert [(e.line, e.position) for e in found.random] == drawn
        assert found.active == len(flat)
        assert found.tokens == sum(int(counted.sum()) for *_, counted, _ in some)
        if flat:
            exact = [value for value, *_ in flat]
            assert found.mean == sum(exact) / len(exact)
            assert (found.lowest, found.highest) == (min(exact), max(exact))
        for one in found.histogram:
            assert one.count == sum(one.low <= value < one.high for value, *_ in flat)
        assert sum(one.count for one in found.histogram) == len(flat)
        for one in (*found.top, *found.bottom, *found.random):
            ((ids, values),) = ((i, v) for line, i, _, v in some if line == one.line)
            window = range(max(0, one.position - 2), min(len(ids), one.position + 2))
            assert one.tokens == tuple(map(str, window))
            assert one.activations == tuple(float(values[token, at]) for token in window)


def test_the_order_of_prompts_makes_no_difference():
    some = list(prompts(1))
    one, other = collected(some), collected(some[::-1])
    for name, array in one.arrays.items():
        # Sums of float64 are exact here, as all values are quarters.
        assert np.array_equal(array, other.arrays[name]), name


def test_each_active_token_is_drawn_as_often_as_any_other():
    values = np.zeros((40, 1), dtype=np.float32)
    values[::2] = 1
    drawn, seeds = np.zeros(40), 400
    entries = sparse(values)
    for seed in range(seeds):
        sizes = Sizes(top=0, bottom=0, random=5, before=0, after=0, seed=seed)
        collector = Collector("feature", "0.resid_post", [0], sizes)
        collector.add(1, range(40), np.ones(40, dtype=bool), entries)
        collector.add(2, range(40), np.zeros(40, dtype=bool), entries)  # counts nowhere
        for one in collector.examples(0, str).random:
            assert one.line == 1
            drawn[one.position] += 1
    assert drawn[1::2].sum() == 0
    expected, spread = seeds / 4, (seeds * 0.25 * 0.75) ** 0.5
    assert np.abs(drawn[::2] - expected).max() < 4.5 * spread


def test_no_examples_of_a_kind():
    sizes = Sizes(top=0, bottom=0, random=0)
    found = collected(prompts(2), sizes=sizes).examples(0, str)
    assert (found.top, found.bottom, found.random) == ((), (), ())
    assert found.active > 0


def test_a_state_of_other_sizes_is_refused():
    collector = collected(prompts(3))
    other = collected([], sizes=Sizes(top=9))
    with pytest.raises((ValueError, KeyError)):
        collector.load(other.arrays, 0)
