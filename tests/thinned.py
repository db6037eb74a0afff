"""Cases of which some run by default, and the others with `-m slow`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
