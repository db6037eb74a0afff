"""The columns that a lens declares for its table.

Axes give columns by themselves: see `llmscope.figure.tables.rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from llmscope.figure import Figure

Type = Literal["int64", "int32", "float64", "float32", "string", "bool"]
Role = Literal["key", "value", "label", "status", "input"]


@dataclass(frozen=True)
class Column:
    """A column of a lens's table.

    Attributes:
        name: its name.
        type: its Parquet type; missing values are null.
        role: `key`: where a row is; `value`: a number to take means of; `label`: a text, or an id;
            `status`: that of the verdict; `input`: a column of the prompt file.
        help: what it holds, in a phrase.
        unit: the unit of a value, if it is the same in all modes.
        of: returns the values from a figure: an array that broadcasts to the figure's shape, a
            list of texts of that shape, or one value for all rows; None for columns that are not
            of a figure.
        modes: the modes whose tables have it; empty: all.
    """

    name: str
    type: Type
    role: Role
    help: str
    unit: str = ""
    of: Callable[[Figure], Any] | None = None
    modes: tuple[str, ...] = ()


def number(
    name: str,
    about: str,
    source: str = "",
    unit: str = "",
    modes: tuple[str, ...] = (),
) -> Column:
    """Return a column of numbers.

    Args:
        name: its name.
        about: what it holds.
        source: the key of the figure's `extra` that holds them; empty: the figure's values.
        unit: their unit.
        modes: the modes that have it; empty: all.
    """
    return Column(name, "float32", "value", about, unit, _from(source), modes)


def count(name: str, about: str, source: str, modes: tuple[str, ...] = ()) -> Column:
    """Return a column of whole numbers, as of a rank, from a key of the figure's `extra`."""
    return Column(name, "int32", "value", about, "", _from(source), modes)


def label(name: str, about: str, source: str, modes: tuple[str, ...] = ()) -> Column:
    """Return a column of ids from a key of the figure's `extra`."""
    return Column(name, "int32", "label", about, "", _from(source), modes)


def text(name: str, about: str, source: str, modes: tuple[str, ...] = ()) -> Column:
    """Return a column of texts from a key of the figure's `extra`."""
    return Column(name, "string", "label", about, "", _from(source), modes)


def key(name: str, about: str, source: str, modes: tuple[str, ...] = ()) -> Column:
    """Return a column that says where a row is, from a key of the figure's `extra`."""
    return Column(name, "int32", "key", about, "", _from(source), modes)


def index(about: str, modes: tuple[str, ...] = ()) -> Column:
    """Return a column `index` that counts along the first axis, whose labels may not differ."""

    def counted(figure: Figure) -> Any:
        import numpy as np

        return _down(np.arange(len(figure.axes[0])), figure)

    return Column("index", "int32", "key", about, "", counted, modes)


def by_row(source: str) -> Callable[[Figure], Any]:
    """Return what reads a key of the figure's `extra` with one value for each row of it."""

    def read(figure: Figure) -> Any:
        import numpy as np

        value = figure.extra.get(source)
        return None if value is None else _down(np.asarray(value), figure)

    return read


def _down(values: Any, figure: Figure) -> Any:
    """Return the values with as many dimensions as the figure, along its first one."""
    return values.reshape(-1, *[1] * (figure.values.ndim - 1))


def _from(source: str) -> Callable[[Figure], Any]:
    if not source:
        return lambda figure: figure.values
    return lambda figure: figure.extra.get(source)
