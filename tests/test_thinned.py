"""`few(count)`: by default that many cases of a test run, spread over all."""

import pytest

from tests.thinned import further_cases


class Case:
    """What `further_cases` reads of a collected test."""

    def __init__(self, nodeid, *marks):
        self.nodeid = nodeid
        self.keywords = {mark.name: mark for mark in marks}

    def get_closest_marker(self, name):
        return self.keywords.get(name)


def kept_of(count, cases):
    further = further_cases(cases)
    assert all(case in cases for case in further)
    return [case.nodeid for case in cases if case not in further]


@pytest.mark.parametrize(
    ("count", "total", "kept"),
    [
        (3, 9, [0, 4, 8]),
        (3, 10, [0, 4, 9]),
        (2, 5, [0, 4]),
        (1, 5, [0]),
        (3, 3, [0, 1, 2]),
        (4, 2, [0, 1]),
    ],
)
def test_the_cases_that_run_are_spread_from_the_first_to_the_last(count, total, kept):
    few = pytest.mark.few(count).mark
    cases = [Case(f"tests/test_a.py::test_b[{at}]", few) for at in range(total)]
    assert kept_of(count, cases) == [f"tests/test_a.py::test_b[{at}]" for at in kept]


def test_each_test_is_counted_by_itself_and_slow_cases_not_at_all():
    few, slow = pytest.mark.few(2).mark, pytest.mark.slow.mark
    cases = [
        Case(f"tests/test_a.py::test_{name}[{at}]", few, *([slow] if at == 3 else []))
        for at in range(4)
        for name in "bc"
    ]
    kept = kept_of(2, cases)
    for name in "bc":
        own = [nodeid for nodeid in kept if f"test_{name}[" in nodeid]
        assert own == [f"tests/test_a.py::test_{name}[{at}]" for at in (0, 2, 3)]


def test_a_test_without_the_mark_keeps_all_its_cases():
    cases = [Case(f"tests/test_a.py::test_b[{at}]") for at in range(5)]
    assert further_cases(cases) == []
