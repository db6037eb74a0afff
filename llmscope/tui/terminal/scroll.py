"""Rows whose cells move sideways, as the map's when a token is added: the terminal moves them."""

from __future__ import annotations

from operator import eq, gt, sub

Ink = tuple[str, str, str]
"""The codes of a style: attributes, foreground, background; empty for the terminal's default."""
Cell = tuple[str, Ink]
"""The text that begins in a cell, and its style. The second cell of a wide character is empty."""

UNKNOWN: Cell = ("\0", ("", "", ""))
"""A cell whose content is unknown: it equals no cell that is ever wanted."""
FARTHEST = 12
"""The most cells that a row may move by: a column of words."""
LEAST_CELLS = 8
"""Cells that a move must correct; for fewer, sending them again costs no more."""


def scroll_row(
    y: int, wanted: list[Cell], on_terminal: list[Cell]
) -> tuple[str, list[Cell]] | None:
    """Return the sequence that moves part of a row, and the row's new cells; None if no move helps.

    Cells are deleted at one end of the part, and as many are inserted at the other (DCH and ICH of
    ECMA-48), so that everything to the right of it stays in place. The inserted cells are unknown:
    terminals differ in the colour that they give them.
    """
    if on_terminal.count(UNKNOWN) == len(on_terminal):
        return None  # nothing to move: the terminal may show anything
    right = list(map(eq, wanted, on_terminal))
    if len(right) - sum(right) < LEAST_CELLS:
        return None
    gained, best = LEAST_CELLS - 1, (0, 0, 0)
    for distance in range(1, FARTHEST + 1):
        none = [False] * distance
        left = [*map(eq, wanted, on_terminal[distance:]), *none]
        back = [*none, *map(eq, wanted[distance:], on_terminal)]
        for by, then in ((-distance, left), (distance, back)):
            if sum(map(gt, then, right)) > gained:
                gain, start, stop = _part([*map(sub, then, right)])
                if gain > gained:
                    gained, best = gain, (by, start, stop)
    by, start, stop = best
    if not by:
        return None
    count = abs(by)
    first, last = (start, stop + count) if by < 0 else (start - count, stop)
    if any(cell is UNKNOWN or not cell[0] for cell in on_terminal[first:]):
        return None  # half of a wide character might be left behind
    new = [UNKNOWN] * count
    if by < 0:
        deleted, inserted, part = first, last - count, [*on_terminal[first + count : last], *new]
    else:
        deleted, inserted, part = last - count, first, [*new, *on_terminal[first : last - count]]
    sequence = f"\x1b[{y + 1};{deleted + 1}H\x1b[{count}P\x1b[{inserted + 1}G\x1b[{count}@"
    return sequence, [*on_terminal[:first], *part, *on_terminal[last:]]


def _part(gains: list[int]) -> tuple[int, int, int]:
    """Return the largest sum of neighbours, and where they begin and end (Kadane's algorithm)."""
    largest, best, total, begin = 0, (0, 0), 0, 0
    for place, gain in enumerate(gains):
        if total <= 0:
            total, begin = 0, place
        total += gain
        if total > largest:
            largest, best = total, (begin, place + 1)
    return largest, *best
