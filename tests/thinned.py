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
