"""Several layers or heads by their numbers: `0,4,8-11`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from llmscope.errors import WrongValueError
from llmscope.support.arguments import check_index, integer, quote_value, several

MOST_INDICES = 10_000
"""Most indices; no model has as many layers or heads."""
_PART = re.compile(r"(?P<first>-?\d{1,5})(?:-(?P<last>\d{1,5}))?", re.ASCII)
WANTED = "numbers and ranges, such as 0,4,8-11"


def check_indices(name: str, value: Any) -> tuple[int, ...]:
    """Return indices from a text such as `0,4,8-11`, one integer, a range, or several integers.

    Args:
        name: the argument, for errors.
        value: what the caller gave; negative indices count from the end.

    Raises:
        TypeError, ValueError: it names none, too many, or something else.
    """
    if isinstance(value, str):
        numbers = _parse_indices(name, value)
    elif hasattr(value, "tolist"):
        return check_indices(name, value.tolist())
    elif isinstance(value, range | list | tuple | set | frozenset):
        if len(value) > MOST_INDICES:
            raise WrongValueError(f"{name} has {len(value)} entries, and may have {MOST_INDICES}")
        items = several(name, value)
        numbers = [integer(f"{name}[{at}]", item) for at, item in enumerate(items)]
    else:
        numbers = [integer(name, value)]
    if not numbers:
        raise WrongValueError(f"{name} is empty: {WANTED}")
    return tuple(dict.fromkeys(numbers))


def _parse_indices(name: str, text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise WrongValueError(f"{name} {quote_value(text)}: expected {WANTED}")
        first = int(match["first"])
        last = first if match["last"] is None else int(match["last"])
        if first > last or (match["last"] is not None and match["first"].startswith("-")):
            raise WrongValueError(
                f"{name} {quote_value(text)}: a range ascends, and starts at 0 or above"
            )
        if last - first + len(numbers) >= MOST_INDICES:
            raise WrongValueError(
                f"{name} {quote_value(text)} has more than {MOST_INDICES} entries"
            )
        numbers += range(first, last + 1)
    return numbers


def format_indices(values: Sequence[int]) -> str:
    """Return indices as the command line takes them: `0,4,8-11`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value >= 0 and value == runs[-1][-1] + 1 and runs[-1][0] >= 0:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def resolve_indices(name: str, values: Sequence[int] | None, count: int) -> Collection[int]:
    """Return indices without duplicates, negative ones counted from the end; None: all of `count`.

    Args:
        name: what an error calls them.
        values: the indices.
        count: the number of things that they count.

    Raises:
        ValueError: one of them does not exist.
    """
    if values is None:
        return range(count)
    return {check_index(name, value, count) for value in values}
