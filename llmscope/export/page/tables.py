"""Figures of kind `table` as rows of texts, in which the figure's own values are found again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.draw import RenderOptions, styles_for
from llmscope.draw.cells import plain_text, token_text
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.numbers import column
from llmscope.draw.painters.examples import example_windows
from llmscope.draw.scale import Scale
from llmscope.draw.symbols import own_text, quoting_text
from llmscope.figure import Figure
from llmscope.support.numbers import percent

WIDTH = 9
"""Characters of a number in a table."""


@dataclass
class Table:
    """A table to draw.

    Attributes:
        count: the number of rows.
        heads: the names of the columns.
        columns: the texts of each column. [column][row]
        numeric: whether each column holds numbers, which are aligned at the right.
        values: for each column the index on the figure's last axis whose values it shows; 0 for the
            values of a figure with one axis; None for anything else.
        more: for each row what is told of it beside the table; may be empty.
    """

    count: int
    heads: list[str] = field(default_factory=list)
    columns: list[list[str]] = field(default_factory=list)
    numeric: list[bool] = field(default_factory=list)
    values: list[int | None] = field(default_factory=list)
    more: list[str] = field(default_factory=list)

    def add(
        self, head: str, texts: Sequence[str], *, numeric: bool = False, value: int | None = None
    ) -> None:
        """Append a column."""
        self.heads.append(head)
        self.columns.append(list(texts))
        self.numeric.append(numeric)
        self.values.append(value)


def table_of(figure: Figure, look: RenderOptions, scale: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a figure as JSON types.

    Args:
        figure: the figure.
        look: the render options, of which the characters are used.
        scale: the scale of the figure's values.
    """
    names, ascii_ = tuple(axis.name for axis in figure.axes), look.ascii
    windows = None
    if names == ("example",):
        windows = example_windows(figure)
    if windows is not None:
        every = np.array([one for _, some, _ in windows for one in some], dtype=np.float32)
        ends = Scale.of(every, figure.unit, even=True)
        return {
            "scale": {"kind": ends.kind, "low": ends.low, "high": ends.high},
            "examples": [
                {
                    "part": plain_text(part, ascii_),
                    "tokens": [token_text(str(token), ascii_) for token in tokens],
                    "activations": [
                        activation if math.isfinite(activation) else None
                        for activation in activations
                    ],
                    "peak": peak,
                }
                for part, (tokens, activations, peak) in zip(
                    _parts(figure, len(windows)), windows, strict=True
                )
            ],
        }
    table = Table(len(figure.axes[-2] if len(figure.axes) > 1 else figure.axes[0]))
    if names == ("step", "statistic") and "steps" in figure.extra:
        _walk(table, figure, look)
    elif names == ("run", "measure") and "says" in figure.extra:
        _runs(table, figure, look)
    elif len(names) == 1 and "cells" in figure.extra:
        _columns(table, figure, look)
    elif len(names) == 1 or len(names) == 2:
        table.add(plain_text(names[0], ascii_), axis_labels(figure, 0, ascii_))
        _add_values(table, figure, look)
    else:
        return {"draw": "heatmap", "scale": scale, "rows": None, "columns": None, "legend": ""}
    return {
        "table": {
            "heads": table.heads,
            "columns": table.columns,
            "numeric": table.numeric,
            "values": table.values,
            "more": table.more,
        }
    }


def _parts(figure: Figure, count: int) -> list[str]:
    parts = [str(one) for one in figure.extra.get("part", ())]
    return parts if len(parts) == count else [""] * count


def _add_values(table: Table, figure: Figure, look: RenderOptions) -> None:
    """Append the figure's values: a column, or one for each label of the last axis."""
    missing = styles_for(look).glyphs.missing
    if len(figure.axes) == 1:
        head = plain_text(figure.unit or "value", look.ascii)
        texts = column(figure.values, WIDTH, missing)
        table.add(head, [text.strip() for text in texts], numeric=True, value=0)
        return
    for at, head in enumerate(axis_labels(figure, 1, look.ascii)):
        texts = column(figure.values[:, at], WIDTH, missing)
        table.add(head, [text.strip() for text in texts], numeric=True, value=at)


def _walk(table: Table, figure: Figure, look: RenderOptions) -> None:
    """Add a row for each step of a walkthrough."""
    steps, ascii_ = figure.extra["steps"], look.ascii
    table.add("#", list(map(str, range(len(steps)))), numeric=True)
    table.add("step", [own_text(name, ascii_) for name in figure.axes[0].labels])
    table.add("what it does", [own_text(str(step["gist"]), ascii_) for step in steps])
    shapes = [" × ".join(map(str, step["shape"])) for step in steps]
    table.add("shape", [own_text(shape, ascii_) for shape in shapes])
    told = [" ".join(token_text(str(text), ascii_) for text in step["told"]) for step in steps]
    if any(told):
        table.add("tokens", told)
    _add_values(table, figure, look)
    table.more = [
        own_text(" · ".join(filter(None, map(str, (step["sentence"], step["reason"])))), ascii_)
        for step in steps
    ]


def _runs(table: Table, figure: Figure, look: RenderOptions) -> None:
    """Add a row for each run: its next token, and its distance from the first run."""
    extra, ascii_ = figure.extra, look.ascii
    table.add("run", axis_labels(figure, 0, ascii_))
    table.add("says", [token_text(str(one), ascii_) for one in extra["says"]])
    chances = [float(one) for one in extra["says_probability"]]
    table.add("p", list(map(percent, chances)), numeric=True)
    _add_values(table, figure, look)


def _columns(table: Table, figure: Figure, look: RenderOptions) -> None:
    """Add the columns of `extra["cells"]` and the texts: see `llmscope.draw.painters.columns`."""
    extra, ascii_ = figure.extra, look.ascii
    missing = styles_for(look).glyphs.missing
    cells = [np.asarray(one, dtype=np.float64) for one in extra["cells"]]
    units = list(extra.get("units", ())) or [figure.unit] * len(cells)
    table.add("#", [str(place + 1) for place in range(table.count)], numeric=True)
    shown = False
    for head, numbers, unit in zip(extra["heads"], cells, units, strict=True):
        own = not shown and _same(numbers, figure.values)
        shown = shown or own
        texts = _texts(numbers, str(unit), missing)
        table.add(own_text(str(head), ascii_), texts, numeric=True, value=0 if own else None)
    if not shown:
        _add_values(table, figure, look)
    texts = [str(one) for one in extra.get("texts", figure.axes[0].labels)]
    table.add(
        plain_text(figure.axes[0].name, ascii_),
        [quoting_text(" ".join(text.split()), ascii_) for text in texts],
    )


def _same(numbers: NDArray[np.float64], values: NDArray[np.float32]) -> bool:
    return np.array_equal(numbers.astype(np.float32), values, equal_nan=True)


def _texts(numbers: NDArray[np.float64], unit: str, missing: str) -> list[str]:
    if unit == "probability":
        return [percent(one) or missing for one in numbers.tolist()]
    return [one.strip() for one in column(numbers.astype(np.float32), WIDTH, missing)]
