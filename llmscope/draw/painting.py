"""What a figure is drawn on, and the result: rows of cells, and which index each cell shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.segment import Segment

if TYPE_CHECKING:
    from llmscope.draw.styles import Styles
    from llmscope.figure import Axis, Figure, Focus

Row = tuple[Segment, ...]
Box = tuple[range, range, str, int]
"""A block of cells that shows one index of an axis: columns, rows, axis name, index."""


@dataclass(frozen=True)
class Canvas:
    """The cells that a figure is drawn on, and what it is drawn with.

    Attributes:
        width, height: the size in cells.
        styles: the styles of the render options.
        focus: the indices to mark and keep visible.
        tokens: the figure of the lens `tokens` for the same prompt, for the rows around a map; None
            leaves them out.
        zoom: width of a map's column in cells; None fits the columns to the width.
    """

    width: int
    height: int
    styles: Styles
    focus: Focus
    tokens: Figure | None = None
    zoom: int | None = None


@dataclass(frozen=True)
class Painting:
    """A drawn figure.

    Attributes:
        rows: exactly as many rows, of exactly the width, as requested.
        legend: the scale in words or cells (ends of the ramp with units, pooling, clipping), for
            the pane's lower border; None if the figure has no legend.
        across: for columns that show an index of an axis: column -> (axis name, index).
        down: for rows that show an index of an axis: row -> (axis name, index).
        boxes: for small multiples, where a block of cells rather than a row or column shows one.
        remark: text to append to the title, such as how many tokens are pooled.
    """

    rows: tuple[Row, ...]
    legend: Row | None = None
    across: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    down: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    remark: str = ""

    def placed(self, *axes: Axis) -> Painting:
        """Return the painting with indices of `axes` turned into positions (start + i · step)."""
        starts = {axis.name: axis for axis in axes}

        def place(cells: Mapping[int, tuple[str, int]]) -> dict[int, tuple[str, int]]:
            return {
                cell: (name, starts[name].start + index * starts[name].step)
                for cell, (name, index) in cells.items()
            }

        return replace(self, across=place(self.across), down=place(self.down))

    def hit(self, column: int, row: int) -> dict[str, int]:
        """Return the indices shown by a cell, by axis name, for a click on it."""
        inside = (
            (name, index)
            for across, down, name, index in self.boxes
            if column in across and row in down
        )
        places = (self.across.get(column), self.down.get(row), *inside)
        return dict(filter(None, places))
