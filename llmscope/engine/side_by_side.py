"""The first figures of several panes, whose numbers reach the CPU in one transfer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmscope.figure import Figure
from llmscope.record.fetch import Fetch, Fetches, advance, to_cpu

Look = Fetches[Figure]
"""The figures of a pane, and what they wait for."""


def side_by_side(
    looks: Sequence[Look], begin: Callable[[int], None], newer: Callable[[], bool]
) -> Iterator[Iterator[Figure]]:
    """Yield the figures of each look, in order.

    From the first look on that waits for the device, the next ones are begun as well, until each
    waits or has its first figure: then all that they wait for is one transfer. What comes after
    its first figure is computed when it is asked for.

    Args:
        looks: the figures of each pane.
        begin: called with the number of each look before it is begun.
        newer: returns whether these figures are out of date, so that no further look is begun
            before those that wait have their figures.
    """
    waiting: list[tuple[Look, Fetch | Figure | None]] = []
    for at, look in enumerate(looks):
        begin(at)
        item = advance(look)
        if not waiting and not isinstance(item, Fetch):
            yield _figures(look, item)
            continue
        waiting.append((look, item))
        if newer():
            yield from _fetch_waiting(waiting)
            waiting = []
    yield from _fetch_waiting(waiting)


def _fetch_waiting(
    waiting: Sequence[tuple[Look, Fetch | Figure | None]],
) -> Iterator[Iterator[Figure]]:
    """Fetch what looks wait for in one transfer, and yield the figures of each."""
    wanted = [x for _, item in waiting if isinstance(item, Fetch) for x in item.tensors]
    answers: Iterator[Any] | None
    try:
        answers = iter(to_cpu(wanted))
    except Exception:  # such as too little memory: each is fetched alone, and fails alone
        answers = None
    for look, item in waiting:
        answer = None
        if answers is not None and isinstance(item, Fetch):
            answer = [next(answers) for _ in item.tensors]
        yield _figures(look, item, answer)


def _figures(
    look: Look, item: Fetch | Figure | None, answer: Sequence[Any] | None = None
) -> Iterator[Figure]:
    """Yield figures of a look, of which one item is known, with what that waits for if fetched."""
    while item is not None:
        if not isinstance(item, Fetch):
            yield item
            item = advance(look)
            continue
        try:
            answer = to_cpu(item.tensors) if answer is None else answer
        except Exception as error:
            item = _raise_where_awaited(look, error)
        else:
            item = advance(look, answer)
        answer = None


def _raise_where_awaited(look: Look, error: Exception) -> Fetch | Figure | None:
    """Raise an error of a transfer where a look waits for it, and return its next item."""
    try:
        return look.throw(error)
    except StopIteration:
        return None
