"""Which panes of a workspace are on screen, and their layout, by the terminal's size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from llmscope.tui.state.workspaces import Workspace

Layout = Literal["tiny", "small", "medium", "wide"]

LOWEST = 10
"""Rows that a detail needs to be useful, its border included."""
LEAST = 4
"""Rows that leave a detail two inner rows, for its top lines."""
LINE = 3
"""Rows of a pane that shows a single line."""


@dataclass(frozen=True)
class PaneLayout:
    """A layout of panes, which fill the cells row by row, in their order.

    Attributes:
        columns, rows: their sizes, in the syntax of a style sheet.
        spans: how many rows a pane takes, if more than one.
        across: how many columns a pane takes, if more than one.
        order: the panes.
    """

    columns: str = "1fr"
    rows: str = "1fr"
    spans: Mapping[str, int] = field(default_factory=dict)
    across: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()


def layout_for(width: int, height: int) -> Layout:
    """Return the layout for a terminal of `width` columns and `height` rows."""
    if width < 60 or height < 15:
        return "tiny"
    if width < 100 or height < 30:
        return "small"
    return "medium" if width < 180 else "wide"


@dataclass(frozen=True)
class Arrangement:
    """The details that a workspace shows, in order. Its main figure always comes first.

    Attributes:
        order: all its details.
        hidden: the details that the user has hidden.
    """

    order: tuple[str, ...]
    hidden: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, workspace: Workspace, order: Iterable[str] = (), hidden: Iterable[str] = ()
    ) -> Arrangement:
        """Return an arrangement; unknown or repeated names are ignored, missing ones come last."""
        details = workspace.details
        known = dict.fromkeys(key for key in order if key in details)
        return cls(tuple(known | dict.fromkeys(details)), frozenset(hidden) & frozenset(details))

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
        shown = list(self.shown)
        at = shown.index(key)
        to = max(0, min(at + by, len(shown) - 1))
        shown.insert(to, shown.pop(at))
        moved = iter(shown)
        order = tuple(one if one in self.hidden else next(moved) for one in self.order)
        return replace(self, order=order)


def reachable_panes(
    layout: Layout, workspace: Workspace, arrangement: Arrangement
) -> tuple[str, ...]:
    """Return the panes that the user can step through in a layout."""
    if layout == "tiny":
        return (workspace.least,)
    shown = arrangement.shown
    if layout == "medium":
        shown = tuple(key for key in shown if key != workspace.spare)
    return (workspace.spine, *shown)


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
    if layout == "tiny":
        return panes
    if maximized is not None:
        return (maximized,)
    if layout != "small" or len(panes) == 1:
        return panes
    return (workspace.spine, detail if detail in panes else panes[1])


def grid_for(
    layout: Layout, panes: Sequence[str], height: int, layers: int, folded: Collection[str] = ()
) -> PaneLayout:
    """Return how panes share `height` rows; the main figure has `layers` rows of content.

    A map that is lower than the room leaves the rest to a second row of details, so that neither
    three layers nor thirty leave a gap. Nothing here depends on the prompt: nothing moves while
    the user types.

    Args:
        folded: the panes that show only one line. They go below the others, each over the whole
            width, and leave them their room.
    """
    lines = [key for key in panes if key in folded]
    others = [key for key in panes if key not in folded]
    grid = (
        _grid(layout, others, height - LINE * len(lines), layers) if others else PaneLayout(rows="")
    )
    if not lines:
        return grid
    columns = len(grid.columns.split())
    return PaneLayout(
        grid.columns,
        " ".join([grid.rows, *[str(LINE)] * len(lines)]).strip(),
        grid.spans,
        {**grid.across, **dict.fromkeys(lines, columns)},
        (*others, *lines),
    )


def _grid(layout: Layout, panes: Sequence[str], height: int, layers: int) -> PaneLayout:
    spine, *details = panes
    count, order = len(details), tuple(panes)
    if not count:
        return PaneLayout(order=order)
    # The embedding row, the tokens above, the surprisal below, and the border.
    tall = layers + 5
    if layout == "small":
        lowest = min(8, height - LEAST)
        return PaneLayout(rows=f"{max(lowest, min(tall, height * 5 // 8))} 1fr", order=order)
    first = max(LOWEST, tall)
    two_rows = first + LOWEST <= height
    if layout == "medium" or count == 1:
        columns = "3fr 2fr" if layout == "medium" else "5fr 3fr"
        if two_rows and count > 1:
            # The last one has a row of its own if it would leave a gap beside it.
            across = {details[-1]: 2} if count % 2 == 0 else {}
            rows = " ".join([str(first), *["1fr"] * (count // 2)])
            return PaneLayout(columns, rows, across=across, order=order)
        rows = "5fr 6fr 5fr" if count == 3 else " ".join(["1fr"] * count)
        return PaneLayout(columns, rows, {spine: count}, order=order)
    columns = "5fr 3fr 3fr"
    if count == 2:
        return PaneLayout(columns, order=order)
    if two_rows:
        # Below the map and the first detail; the second one has the whole height.
        across = {details[2]: 2} if count == 3 else {}
        return PaneLayout(columns, f"{first} 1fr", {details[1]: 2}, across, order)
    spans = {spine: 2, details[1]: 2} if count == 3 else {spine: 2}
    return PaneLayout(columns, "1fr 1fr", spans, order=order)
