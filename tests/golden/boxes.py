"""Whether the frames on a screen are whole, told from its characters alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """Where a frame stands: its corners lie on these rows and columns."""

    top: int
    left: int
    bottom: int
    right: int


def boxes_of(rows: Sequence[str]) -> list[Box]:
    """The frames whose top left corners are there; the other corners are where sides lead.

    Raises:
        AssertionError: a side leads nowhere.
    """
    found = []
    for top, row in enumerate(rows):
        for left in (at for at, sign in enumerate(row) if sign == "╭"):
            right = row.find("╮", left)
            assert right > left, f"row {top}: the frame from column {left} has no right corner"
            bottom = next(
                (y for y in range(top + 1, len(rows)) if rows[y][left : left + 1] != "│"), len(rows)
            )
            assert bottom < len(rows), f"row {top}: the frame from column {left} has no end"
            found.append(Box(top, left, bottom, right))
    return found


def check_boxes(
    rows: Sequence[str], boxes: Iterable[Box], signs: str = "╭╮╰╯─│", *, alone: bool = True
) -> None:
    """Hold that corners, sides and edges are what they should be, and that no frame cuts another.

    Titles and legends may interrupt an edge, between two blanks, but never reach its corners.

    Args:
        alone: nothing else on the screen has a frame.
    """
    top_left, top_right, bottom_left, bottom_right, level, upright = signs
    taken: dict[tuple[int, int], Box] = {}
    for box in boxes:
        for y in range(box.top, box.bottom + 1):
            for x in range(box.left, box.right + 1):
                assert (y, x) not in taken, f"{box} covers {taken[y, x]}"
                taken[y, x] = box
            if box.top < y < box.bottom:
                sides = rows[y][box.left] + rows[y][box.right]
                assert sides == upright * 2, f"row {y} of {box}: sides are {sides!r}"
        for y, corners in (
            (box.top, top_left + top_right),
            (box.bottom, bottom_left + bottom_right),
        ):
            edge = rows[y][box.left : box.right + 1]
            assert edge[0] + edge[-1] == corners, f"row {y} of {box}: {edge!r}"
            assert edge[1] + edge[-2] == level * 2, f"row {y} of {box}: {edge!r}"
    if alone and signs[0] != signs[1]:
        corners_there = sum(row.count(sign) for row in rows for sign in signs[:4])
        assert corners_there == 4 * len(set(taken.values())), "a corner belongs to no frame"
