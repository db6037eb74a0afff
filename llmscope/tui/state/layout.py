"""Which panes of a workspace are on screen, and where, by the terminal's size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal, NamedTuple

from llmscope.tui.state.workspaces import Workspace

Layout = Literal["tiny", "small", "medium", "wide"]

BORDER = 2
"""Rows, and columns, of a pane's border."""
LEAST = 4
"""Rows that leave a pane two inner rows."""
LINE = 3
"""Rows of a pane that shows a single line."""
BESIDE = 6
"""Rows of content that a figure keeps beside a message that needs more than a line."""
NARROWEST = 24
"""Columns that a column of panes has at least, however the user moves its border."""
WIDTHS: Mapping[Layout, tuple[int, ...]] = {"medium": (3, 2), "wide": (5, 3, 3)}
"""The relative widths of the columns of panes."""
COLUMN = 12
"""Rows without use that are better than one column of panes less."""


class UsefulRows(NamedTuple):
    """The rows of content that a pane can use.

    Attributes:
        least: those that it needs to be useful.
        most: those beyond which it would be empty, or list what hardly matters; None: no limit.
    """

    least: int = 8
    most: int | None = None


class Area(NamedTuple):
    """Where a pane is, in cells, from the upper left corner of the grid."""

    x: int
    y: int
    width: int
    height: int


def layout_for(width: int, height: int) -> Layout:
    """Return the layout for a terminal of `width` columns and `height` rows."""
    if width < 60 or height < 16:
        return "tiny"
    if width < 100 or height < 30:
        return "small"
    return "medium" if width < 180 else "wide"


@dataclass(frozen=True)
class Arrangement:
    """The details that a workspace shows, in order, and sizes. Its main figure comes first.

    Attributes:
        order: all its details.
        hidden: the details that the user has hidden.
        heights: the share of its column's height, from 0 to 1, of each pane that the user sized.
        main: the share of the width of the column with the main figure; None: not set by the user.
    """

    order: tuple[str, ...]
    hidden: frozenset[str] = frozenset()
    heights: Mapping[str, float] = field(default_factory=dict)
    main: float | None = None

    @classmethod
    def of(
        cls, workspace: Workspace, order: Iterable[str] = (), hidden: Iterable[str] = ()
    ) -> Arrangement:
        """Return an arrangement; unknown or repeated names are ignored, missing ones come last."""
        details = workspace.details
        known = dict.fromkeys(key for key in order if key in details)
        return cls(tuple(known | dict.fromkeys(details)), frozenset(hidden) & frozenset(details))

    def of_workspace(self, workspace: Workspace) -> Arrangement:
        """Return what holds of a stored arrangement for the panes that a workspace has now."""
        arrangement = Arrangement.of(workspace, self.order, self.hidden)
        heights = {
            key: share
            for key, share in self.heights.items()
            if key in workspace.panes and 0 < share < 1
        }
        main = self.main if self.main is not None and 0 < self.main < 1 else None
        return replace(arrangement, heights=heights, main=main)

    @property
    def shown(self) -> tuple[str, ...]:
        """Return the details that are not hidden, in their order."""
        return tuple(key for key in self.order if key not in self.hidden)

    def hide(self, key: str) -> Arrangement:
        """Return the arrangement with a detail hidden."""
        return replace(self, hidden=self.hidden | {key})

    def show(self, *keys: str) -> Arrangement:
        """Return the arrangement with details shown again."""
        return replace(self, hidden=self.hidden - set(keys))

    def move(self, key: str, by: int) -> Arrangement:
        """Return the arrangement with a detail moved by `by` places among those that are shown."""
        panes = list(self.shown)
        at = panes.index(key)
        to = max(0, min(at + by, len(panes) - 1))
        panes.insert(to, panes.pop(at))
        moved = iter(panes)
        order = tuple(pane if pane in self.hidden else next(moved) for pane in self.order)
        return replace(self, order=order)

    def sized(self, heights: Mapping[str, float]) -> Arrangement:
        """Return the arrangement with other shares of the height for some panes."""
        return replace(self, heights={**self.heights, **heights})


def reachable_panes(
    layout: Layout, workspace: Workspace, arrangement: Arrangement
) -> tuple[str, ...]:
    """Return the panes that the user can step through in a layout, the one shown first before."""
    panes = arrangement.shown
    if layout == "tiny":
        rest = (key for key in (workspace.spine, *panes) if key != workspace.least)
        return (workspace.least, *rest)
    if layout == "medium":
        panes = tuple(key for key in panes if key != workspace.spare)
    return (workspace.spine, *panes)


def visible(
    layout: Layout,
    workspace: Workspace,
    arrangement: Arrangement,
    *,
    detail: str,
    maximized: str | None,
) -> tuple[str, ...]:
    """Return the panes that are on screen, in their order.

    Args:
        detail: the one detail that a small screen has room for.
        maximized: the pane that has all the room; None if no pane is maximized.
    """
    panes = reachable_panes(layout, workspace, arrangement)
    if maximized is not None:
        return (maximized,)
    if layout == "tiny":
        return panes[:1]
    if layout != "small" or len(panes) == 1:
        return panes
    return (workspace.spine, detail if detail in panes else panes[1])


def areas(
    layout: Layout,
    panes: Sequence[str],
    size: tuple[int, int],
    rows: Mapping[str, UsefulRows],
    arrangement: Arrangement,
    folded: Collection[str] = (),
    messages: Mapping[str, int] | None = None,
    focused: str = "",
) -> dict[str, Area]:
    """Return the area of each pane, in cells; together they fill the grid.

    The main figure stands on the left, or above in a small layout. Where it cannot use all rows of
    its column, another pane gets the rest. The prompt decides nothing here, so that nothing moves
    while the user types.

    Args:
        layout: the layout.
        panes: the panes on screen, the main figure first.
        size: width and height of the grid in cells.
        rows: the useful rows of each pane.
        arrangement: the user's sizes.
        folded: the panes that show only a message. They go below the others, each over the whole
            width, as tall as the message is where the others leave the rows.
        messages: the rows of the message of each pane that shows one, folded or not.
        focused: the pane that gets most of the rows of a small screen; empty if none has the focus.
    """
    width, height = size
    message_rows = messages or {}
    lines = [key for key in panes if key in folded] if len(panes) > 1 else []
    others = [key for key in panes if key not in lines]
    room = height - LINE * len(lines) if others else 0
    placed: dict[str, Area] = {}
    columns = _columns(layout, others, room, rows) if others else []
    kept_rows = max(
        (_rows_kept_beside(column, rows, message_rows) for column in columns), default=room
    )
    below = _message_heights(lines, room - kept_rows, message_rows)
    room = height - sum(below.values())
    x = 0
    widths = _widths(layout, len(columns), width, arrangement)
    for column, across in zip(columns, widths, strict=True):
        y = 0
        if layout == "small" and focused in column and not arrangement.heights:
            heights = _heights_around(column, room, rows, focused)
        else:
            heights = _heights(column, room, rows, arrangement, panes[0])
        for key, tall in zip(column, heights, strict=True):
            placed[key] = Area(x, y, across, tall)
            y += tall
        x += across
    if not others:
        tall = height // len(lines)
        return {key: Area(0, at * tall, width, tall) for at, key in enumerate(lines)}
    y = room
    for key, tall in below.items():
        placed[key] = Area(0, y, width, tall)
        y += tall
    return placed


def _rows_kept_beside(
    column: Sequence[str], rows: Mapping[str, UsefulRows], messages: Mapping[str, int]
) -> int:
    """Return the rows that the panes of a column keep beside long messages of folded panes."""
    return sum(
        (messages.get(key) or min(rows.get(key, UsefulRows()).least, BESIDE)) + BORDER
        for key in column
    )


def _message_heights(
    lines: Sequence[str], free: int, messages: Mapping[str, int]
) -> dict[str, int]:
    """Return the height of each folded pane, in the given order.

    Each has the rows of a single line. The `free` rows go to the shortest messages first, so that
    as many as possible are whole.
    """
    heights = dict.fromkeys(lines, LINE)
    for key in sorted(lines, key=lambda key: messages.get(key, 1)):
        more = max(0, min(messages.get(key, 1) - 1, free))
        heights[key] += more
        free -= more
    return heights


def _columns(
    layout: Layout, panes: Sequence[str], height: int, rows: Mapping[str, UsefulRows]
) -> list[list[str]]:
    """Return the panes of each column, from left to right; the first column has the main figure.

    Of all choices, take the one that gives the main figure the most of the rows that it can use,
    then the one that leaves the fewest rows without use.
    """
    count = len(WIDTHS.get(layout, (1,)))
    spine, *details = panes
    needed = {key: rows.get(key, UsefulRows()) for key in panes}

    def cost(places: Sequence[int]) -> tuple[float, ...]:
        columns = _place_panes(spine, details, places)
        lowest = [sum(needed[key].least + BORDER for key in column) for column in columns]
        highest = [
            sum(height if (top := needed[key].most) is None else top + BORDER for key in column)
            for column in columns
        ]
        spine_most = needed[spine].most
        wanted = height if spine_most is None else min(height, spine_most + BORDER)
        lacking = wanted - (height - lowest[0] + needed[spine].least + BORDER)
        crowded = sum(max(0, rows - height) for rows in lowest)
        unused = sum(max(0, height - rows) for rows in highest) + COLUMN * (count - len(columns))
        return (max(0, crowded), max(0, lacking), unused, max(lowest), *places)

    places = min(product(range(count), repeat=len(details)), key=cost)
    return _place_panes(spine, details, places)


def _place_panes(spine: str, details: Sequence[str], places: Sequence[int]) -> list[list[str]]:
    """Return the columns that hold panes, given the column of each detail."""
    columns: dict[int, list[str]] = {0: [spine]}
    for key, place in sorted(zip(details, places, strict=True), key=lambda pair: pair[1]):
        columns.setdefault(place, []).append(key)
    return list(columns.values())


def _widths(layout: Layout, count: int, width: int, arrangement: Arrangement) -> list[int]:
    """Return the widths of the columns, which sum to `width`."""
    if count < 2:
        return [width] * count
    parts = WIDTHS[layout][:count]
    first = round(width * (arrangement.main or parts[0] / sum(parts)))
    first = max(NARROWEST, min(first, width - NARROWEST * (count - 1)))
    rest = width - first
    return [first, rest] if count == 2 else [first, rest - rest // 2, rest // 2]


def _heights_around(
    column: Sequence[str], height: int, rows: Mapping[str, UsefulRows], focused: str
) -> list[int]:
    """Return the heights of panes of which the focused one gets the rows that it can use.

    The others keep as many as make them useful, of a third of the height together.
    """
    others = [key for key in column if key != focused]
    if not others:
        return [height]
    share = max(min(LEAST, height // len(column)), height // 3 // len(others))
    heights = {key: min(share, rows.get(key, UsefulRows()).least + BORDER) for key in others}
    rest = height - sum(heights.values())
    highest = rows.get(focused, UsefulRows()).most
    heights[focused] = rest if highest is None else min(rest, highest + BORDER)
    heights[others[0]] += rest - heights[focused]
    return [heights[key] for key in column]


def _heights(
    column: Sequence[str],
    height: int,
    rows: Mapping[str, UsefulRows],
    arrangement: Arrangement,
    spine: str,
) -> list[int]:
    """Return the heights of the panes of a column, which sum to `height`.

    Each pane gets the rows that it needs. Then the main figure grows up to those that it can use,
    and after it all others alike; what is left goes to the first one that the user has not sized.
    """
    if len(column) == 1:
        return [height]
    bounds = {key: rows.get(key, UsefulRows()) for key in column}
    shares = arrangement.heights
    fixed = {key: round(shares[key] * height) for key in column if key in shares}
    lowest = {key: max(LEAST, fixed.get(key, bounds[key].least + BORDER)) for key in column}
    heights = dict(lowest)
    while sum(heights.values()) > height:
        # The ones that the user did not size give way first, the largest of them first.
        key = max(
            column,
            key=lambda key: (heights[key] > LEAST, key not in fixed, heights[key], key != spine),
        )
        if heights[key] <= LINE:
            break
        heights[key] -= 1
    growing = [key for key in column if key not in fixed] or list(column)
    while sum(heights.values()) < height:
        hungry = [
            key
            for key in growing
            if (highest := bounds[key].most) is None or heights[key] < highest + BORDER
        ]
        first = min(
            hungry or growing[:1],
            key=lambda key: (key != spine, heights[key] - lowest[key], column.index(key)),
        )
        heights[first] += 1
    return [heights[key] for key in column]
