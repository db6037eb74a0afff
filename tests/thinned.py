"""Cases of which some run by default, and the others with `-m slow`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def thinned(cases: Iterable[Any], by_default: Callable[[Any], bool]) -> list[Any]:
    """Return cases for `parametrize`, with those marked slow that are not to run by default."""
    return [
        one
        if by_default(one)
        else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
        for one in cases
    ]


def at_sizes(sizes: Iterable[tuple[int, int]], *by_default: tuple[int, int]) -> list[Any]:
    """Return sizes of a terminal for `parametrize`, of which those in `by_default` are not slow."""
    slow = pytest.mark.slow
    return [pytest.param(size, marks=() if size in by_default else slow) for size in sizes]


def further_cases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the cases that do not run by default of the tests marked `few(count)`.

    By default, `count` cases run that are spread evenly over all, from the first to the last; of
    `few(1)` the first.
    """
    by_test: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if "few" in item.keywords and "slow" not in item.keywords:
            by_test[item.nodeid.partition("[")[0]].append(item)
    found: list[pytest.Item] = []
    for cases in by_test.values():
        few = cases[0].get_closest_marker("few")
        assert few is not None
        (count,) = few.args
        kept = {round(at * (len(cases) - 1) / max(count - 1, 1)) for at in range(count)}
        found += [case for at, case in enumerate(cases) if at not in kept]
    return found
