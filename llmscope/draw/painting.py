"""What drawing gives back: rows of cells, and which cell shows what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.segment import Segment

if TYPE_CHECKING:
    from llmscope.figure import Axis

Row = tuple[Segment, ...]
Box = tuple[range, range, str, int]
"""Columns and rows of cells that stand for an index of an axis: its name, and the index."""


@dataclass(frozen=True)
class Painting:
    """A drawn figure.

    Attributes:
        rows: each exactly as many cells wide as was asked for, as many as was asked for.
        legend: the scale in words or cells (ramp's ends with units, pooling, clipping), for the
            pane's lower border; None when the figure needs none.
        across: for columns that stand for an index of an axis: column -> (axis name, index).
        down: for rows that stand for an index of an axis: row -> (axis name, index).
        boxes: for pictures in a picture, where neither a column nor a row does.
        remark: what a title must add, such as how much is pooled in the room there is.
    """

    rows: tuple[Row, ...]
    legend: Row | None = None
    across: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    down: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    remark: str = ""

    def placed(self, *axes: Axis) -> Painting:
        """The same, where indices of these axes are turned into what they stand for."""
        starts = {axis.name: axis for axis in axes}

        def place(cells: Mapping[int, tuple[str, int]]) -> dict[int, tuple[str, int]]:
            return {
                cell: (name, starts[name].start + index * starts[name].step)
                for cell, (name, index) in cells.items()
            }

        return replace(self, across=place(self.across), down=place(self.down))

    def hit(self, column: int, row: int) -> dict[str, int]:
        """The indices under a cell, by axis name: what a click there points at."""
        inside = (
            (name, index)
            for across, down, name, index in self.boxes
            if column in across and row in down
        )
        found = (self.across.get(column), self.down.get(row), *inside)
        return dict(filter(None, found))
