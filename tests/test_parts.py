"""`pytest --part K/N`: each test function is in one part, with all its cases."""

import pytest

from tests.parts import Part

TESTS = [f"tests/a/test_{file}.py::test_{at}" for file in "bcd" for at in range(20)]


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_each_function_is_in_one_part(count):
    parts = [Part.read(f"{number}/{count}") for number in range(1, count + 1)]
    for test in TESTS:
        (own,) = [part for part in parts if test in part]
        assert f"{test}[case-1]" in own
        assert f"{test}@group" in own
    assert all(any(test in part for test in TESTS) for part in parts)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(pytest.UsageError, match="is not a part"):
        Part.read(text)
