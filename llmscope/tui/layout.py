"""Which panes are on screen and how they share it, by the size of the terminal and the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmscope.tui.actions import PANES

Layout = Literal["tiny", "small", "medium", "wide"]

SPINE = "map"
DETAILS = tuple(key for key in PANES if key != SPINE)
LEFT_OUT_OF_MEDIUM = "tokens"
"""The map carries the tokens and their surprisal already."""
LOWEST = 10
"""Rows that a detail needs to be of use, its border included."""


@dataclass(frozen=True)
class Grid:
    """How panes share the room. They fill the cells row by row, in their order.

    Attributes:
        columns, rows: their sizes, as a style sheet writes them.
        spans: how many rows a pane takes, where it is more than one.
    """

    columns: str = "1fr"
    rows: str = "1fr"
    spans: Mapping[str, int] = field(default_factory=dict)


def layout_for(width: int, height: int) -> Layout:
    """The layout for a terminal of so many columns and rows."""
    if width < 60 or height < 15:
        return "tiny"
    if width < 100 or height < 30:
        return "small"
    return "medium" if width < 180 else "wide"


def held(layout: Layout) -> tuple[str, ...]:
    """The panes that one can step through in a layout."""
    if layout == "tiny":
        return ("next-token",)
    if layout == "medium":
        return tuple(key for key in PANES if key != LEFT_OUT_OF_MEDIUM)
    return tuple(PANES)


def visible(layout: Layout, *, detail: str, maximized: str | None) -> tuple[str, ...]:
    """The panes that are on screen, in their order.

    Args:
        detail: the one detail that a small screen has room for.
        maximized: the pane that has all the room, if one has.
    """
    if layout == "tiny":
        return held(layout)
    if maximized is not None:
        return (maximized,)
    return (SPINE, detail) if layout == "small" else held(layout)


def grid_for(layout: Layout, panes: int, height: int, layers: int) -> Grid:
    """How so many panes share `height` rows, for a model of so many layers.

    A map that is lower than the room leaves the rest to a second row of details, so that neither
    three layers nor thirty leave a hole. Nothing here depends on the prompt: nothing moves while
    one types.
    """
    if panes == 1:
        return Grid()
    # The embedding, the tokens above, the surprisal below, and the border.
    tall = layers + 5
    if layout == "small":
        return Grid(rows=f"{max(8, min(tall, height * 5 // 8))} 1fr")
    first = max(LOWEST, tall)
    if layout == "medium":
        if first + LOWEST <= height:
            return Grid("3fr 2fr", f"{first} 1fr")
        return Grid("3fr 2fr", "5fr 6fr 5fr", {SPINE: 3})
    if first + LOWEST <= height:
        return Grid("5fr 3fr 3fr", f"{first} 1fr", {"attention": 2})
    return Grid("5fr 3fr 3fr", "1fr 1fr", {SPINE: 2})
