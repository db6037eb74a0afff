"""A figure as a small table of text: the columns of its lens, the rows that were asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmscope.agents.answer import cell, line
from llmscope.figure import Figure, Focus
from llmscope.figure.tables import Column
from llmscope.lenses import Lens

Order = Literal["auto", "largest", "place"]
PLAIN_ROWS = 24
"""The number of rows up to which they keep their order where none is asked for."""
PLACES = ("layer", "head", "position", "query", "neuron")
"""Columns that say where a row is, by which rows are chosen."""


@dataclass(frozen=True)
class FigureTable:
    """A table of text.

    Attributes:
        same: the columns with one value in all rows, as a line; empty without any.
        header: the names of the other columns.
        rows: their cells, parted by tabs.
        order: how the rows are sorted, in words.
        sorted: whether they are sorted by magnitude.
        every: how many rows the figure has.
    """

    same: str
    header: str
    rows: tuple[str, ...]
    order: str
    sorted: bool
    every: int


def figure_table(
    figure: Figure, chosen: Lens, focus: Focus, places: Mapping[str, int], order: Order = "auto"
) -> FigureTable:
    """Return the table of a figure that is not refused.

    Args:
        figure: the figure.
        chosen: its lens.
        focus: the focus that it was made at, whose mode is filled in.
        places: the layer, head or position that rows must have, counted from 0.
        order: `largest`: by magnitude; `place`: as in the figure; `auto`: by magnitude if there
            are more than `PLAIN_ROWS` rows that are not ranked already.
    """
    from llmscope.figure.tables.rows import rows

    declared = [column for column in chosen.table(focus.mode) if column.of is not None]
    columns = rows(figure, declared)
    count = max((len(values) for values in columns.values()), default=0)
    row_indices = list(range(count))
    for name, place in places.items():
        values = columns.get("query" if name == "position" and "query" in columns else name)
        if values is not None:
            row_indices = [at for at in row_indices if values[at] == place]
    value = _value(declared, columns)
    ranked = figure.axes[:1] and figure.axes[0].name == "token"
    largest = order == "largest" or (
        order == "auto" and len(row_indices) > PLAIN_ROWS and not ranked
    )
    largest = largest and bool(value)
    if largest:
        row_indices.sort(key=lambda at: -_size(columns[value][at]))
    words = f"largest {value} first" if largest else "in order"
    units = {
        column.name: column.unit or (figure.unit if column.name == value else "")
        for column in declared
    }
    units = {name: unit for name, unit in units.items() if unit != name}
    texts = {
        name: [_text(values[at], name) for at in row_indices] for name, values in columns.items()
    }
    empty = [name for name, cells in texts.items() if not any(cells)]
    alone = [name for name in texts if len(set(texts[name])) == 1 and len(row_indices) > 1]
    alone = [name for name in alone if name not in empty and name != value]
    headers = [name for name in texts if name not in (*alone, *empty)]
    headed = [f"{name} [{units[name]}]" if units.get(name) else name for name in headers]
    same = ", ".join(
        f"{name} {texts[name][0]}{f' {units[name]}' if units.get(name) else ''}" for name in alone
    )
    return FigureTable(
        line(f"in all rows: {same}") if same else "",
        "\t".join(headed),
        tuple("\t".join(texts[name][at] for name in headers) for at in range(len(row_indices))),
        words,
        largest,
        count,
    )


def _value(columns: Sequence[Column], values: Mapping[str, Any]) -> str:
    """Return the name of the first column of numbers that has any; empty without one."""
    for column in columns:
        if column.role == "value" and any(value is not None for value in values[column.name]):
            return column.name
    return ""


def _size(value: Any) -> float:
    """Return the magnitude of a number; −1 where there is no number."""
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return -1.0
    return abs(float(value))


def _text(value: Any, column: str) -> str:
    """Return a value as it stands in a table; empty for a missing one."""
    if value is None:
        return ""
    if column == "layer" and value == -1:
        return "embed"
    if isinstance(value, str):
        return cell(value)
    plain = value.item() if hasattr(value, "item") else value  # a numpy scalar
    if isinstance(plain, bool):
        return str(plain).lower()
    if isinstance(plain, float):
        return "" if math.isnan(plain) else f"{plain:.4g}"
    return str(plain)
