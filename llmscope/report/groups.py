"""Group rows by columns: keys, labels, inputs, and ranges of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from llmscope.errors import ScopeError, option
from llmscope.figure.tables.arrow import FROM_END
from llmscope.report.reader import LINE, BatchTables, LensTable, is_numeric, numbers, unknown
from llmscope.support.bootstrap import Floats, Ints
from llmscope.support.text import display_line, display_text

LENGTH, N_TOKENS = "length", "n_tokens"
"""The number of tokens of the prompt: a name for `--by`, and its column in the table of prompts."""
POSITION = "position"
LAST = -1
"""The last token in the column of positions that are counted from the end."""
MODEL_AXES = ("layer", "head", "neuron")
"""Keys that are never joined to ranges."""
DISTINCT = {"key": 32, "other": 12}
"""Numbers that a column may have before they are joined to ranges, by role."""
MOST_GROUPS = 8192
"""Maximum number of groups: their sums by resample are held."""
MISSING = None
"""The label of rows without a value."""

Label = int | float | str | bool | None


@dataclass(frozen=True)
class Ranges:
    """Numbers joined to ranges that hold about the same number of rows or prompts.

    Attributes:
        edges: the lower ends of all ranges except the first, sorted.
        labels: such as `4–7`.
    """

    edges: Floats
    labels: tuple[str, ...]

    @classmethod
    def of(cls, values: Floats, count: int) -> Ranges | None:
        """Return ranges at the quantiles of values; None if all are equal.

        Args:
            values: any number of them, without NaN.
            count: how many ranges, at most.
        """
        shares = np.arange(1, count) / count
        edges = np.unique(np.quantile(values, shares, method="higher"))
        edges = edges[edges > values.min()]
        if not len(edges):  # most values are the smallest one
            rest = values[values > values.min()]
            if not len(rest):
                return None
            edges = rest.min(keepdims=True)
        place = np.digitize(values, edges)
        labels = []
        for at in range(len(edges) + 1):
            inside = values[place == at]
            low, high = _number(float(inside.min())), _number(float(inside.max()))
            labels.append(low if low == high else f"{low}–{high}")
        return cls(edges, tuple(labels))


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.4g}"


class Grouping:
    """Codes of the groups of rows, by the columns of one table.

    Args:
        folder: the folder.
        lens: the lens of the table.
        by: names of columns: of the table, or `length`. Empty: one group of all rows.
        ranges: how many ranges of a number with many values.
        last: leave out rows of other tokens than the last one of their prompt.

    Raises:
        ScopeError: a column does not exist, or holds lists.
    """

    def __init__(
        self,
        folder: BatchTables,
        lens: str,
        by: Sequence[str],
        ranges: int,
        *,
        last: bool = False,
    ) -> None:
        self.by, self.last = tuple(by), last
        self._folder, self._table = folder, folder.table(lens)
        self._known: dict[tuple[int, ...], int] = {}
        self._values: list[dict[Label, int]] = [{} for _ in by]
        for name in (*by, *((FROM_END.name,) if last else ())):
            self._check(name)
        self._ranges = [self._find_ranges(name, ranges) for name in by]
        if not by:
            self._known[()] = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that are read for it."""
        names = (*self.by, *((FROM_END.name,) if self.last else ()))
        return tuple(dict.fromkeys(name for name in names if name in self._table.columns))

    @property
    def labels(self) -> list[tuple[Label, ...]]:
        """The labels of the groups so far, by code."""
        names = [list(values) for values in self._values]
        return [tuple(names[at][code] for at, code in enumerate(codes)) for codes in self._known]

    @property
    def ordered(self) -> tuple[bool, ...]:
        """Whether the labels of each column have an order, as numbers and ranges do."""
        return tuple(
            ranges is not None
            or all(isinstance(label, int | float) for label in values if label is not None)
            for ranges, values in zip(self._ranges, self._values, strict=True)
        )

    def sorted(self) -> list[int]:
        """Return the codes in the order of their labels, missing ones last."""
        ranks: list[dict[Label, Any]] = []
        for ranges, values in zip(self._ranges, self._values, strict=True):
            places = {} if ranges is None else {name: at for at, name in enumerate(ranges.labels)}
            ranks.append({label: _rank(places.get(label, label)) for label in values})  # type: ignore[arg-type]
        labels = self.labels
        return sorted(
            range(len(labels)),
            key=lambda code: [rank[label] for rank, label in zip(ranks, labels[code], strict=True)],
        )

    def codes(self, line: Ints, table: Any) -> Ints:
        """Return the code of the group of each row; −1 for those that are left out. [row]

        Args:
            line: the line of the prompt of each row.
            table: the rows, with `columns`.

        Raises:
            ScopeError: there are too many groups.
        """
        if self.last and len(line):
            is_last = numbers(table.column(FROM_END.name)) == LAST
            codes = np.full(len(line), -1, np.int64)
            codes[is_last] = self._codes(line[is_last], table.filter(pyarrow.array(is_last)))
            return codes
        return self._codes(line, table)

    def _codes(self, line: Ints, table: Any) -> Ints:
        if not self.by or not len(line):
            return np.zeros(len(line), np.int64)
        parts = [self._column_codes(at, name, line, table) for at, name in enumerate(self.by)]
        rows, inverse = np.unique(np.stack(parts, axis=1), axis=0, return_inverse=True)
        codes = [self._known.setdefault(tuple(row), len(self._known)) for row in rows.tolist()]
        if len(self._known) > MOST_GROUPS:
            raise ScopeError(
                f"by {_list_names(self.by)} there are more than {MOST_GROUPS:,} groups",
                f"fewer columns for {option('by')}",
            )
        return np.array(codes, np.int64)[inverse.reshape(-1)]

    def _check(self, name: str) -> None:
        if not groups_by(self._table, name):
            raise unknown(
                f"the table of {display_text(self._table.lens)} has no column",
                name,
                [*self._table.columns, LENGTH],
            )

    def _find_ranges(self, name: str, count: int) -> Ranges | None:
        """Return the ranges of a column of numbers; None if it has few, or no numbers."""
        column = self._table.columns.get(name)
        if name in MODEL_AXES or (column is not None and not column.numeric):
            return None
        key = column is not None and column.role == "key"
        sample: Floats = np.zeros(0)
        for values in self._all_numbers(name):
            sample = np.concatenate([sample, values[np.isfinite(values)]])
            if len(sample) > SAMPLED:  # the ranges need no more
                sample = np.random.default_rng(0).permutation(sample)[: SAMPLED // 2]
        if not len(sample) or len(np.unique(sample)) <= DISTINCT["key" if key else "other"]:
            return None
        return Ranges.of(sample, count)

    def _all_numbers(self, name: str) -> Iterator[Floats]:
        """Yield all values of a column: once a prompt where it comes from the prompt."""
        prompts = self._folder.prompts
        if name in (LENGTH, N_TOKENS) and name not in self._table.columns:
            yield prompts.lengths
        elif name in prompts.inputs and name in self._table.columns:
            values = self._folder.prompt_column(name)[1]
            if is_numeric(values.type):
                yield numbers(values)
        else:
            for _, table in self._folder.tables(self._table.lens, (name,)):
                yield numbers(table.column(name))

    def _numbers(self, name: str, line: Ints, table: Any) -> Floats:
        """Return a column of numbers; the length of the prompt of each row if it has none."""
        if name in self._table.columns:
            return numbers(table.column(name))
        prompts = self._folder.prompts
        at = np.minimum(np.searchsorted(prompts.lines, line), len(prompts.lines) - 1)
        return np.where(prompts.lines[at] == line, prompts.lengths[at], np.nan)

    def _column_codes(self, at: int, name: str, line: Ints, table: Any) -> Ints:
        ranges, known = self._ranges[at], self._values[at]
        column = self._table.columns.get(name)
        if ranges is not None:
            values = self._numbers(name, line, table)
            place = np.digitize(values, ranges.edges)
            place[np.isnan(values)] = -1
            distinct, inverse = np.unique(place, return_inverse=True)
            labels: list[Label] = [
                ranges.labels[code] if code >= 0 else MISSING for code in distinct
            ]
        elif column is None:
            distinct, inverse = np.unique(self._numbers(name, line, table), return_inverse=True)
            labels = [MISSING if np.isnan(number) else int(number) for number in distinct]
        else:
            labels, inverse = distinct_labels(name, table.column(name))
        if len(known) + len(labels) > 2 * MOST_GROUPS:
            raise ScopeError(
                f"{display_text(name)} has more than {MOST_GROUPS:,} values",
                f"another column for {option('by')}",
            )
        codes = [known.setdefault(label, len(known)) for label in labels]
        return np.array(codes, np.int64)[inverse]


SAMPLED = 2_000_000
"""Values that ranges are made of, at most."""


def distinct_labels(name: str, column: Any) -> tuple[list[Label], NDArray[np.int64]]:
    """Return the distinct values of a column, and the index of each row's.

    Raises:
        ScopeError: it holds lists or other values that are no labels.
    """
    try:
        if pyarrow.types.is_decimal(column.type):
            column = column.cast(pyarrow.float64(), safe=False)
        if pyarrow.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        encoded = column.combine_chunks().dictionary_encode("encode")
        if isinstance(encoded, pyarrow.ChunkedArray):
            encoded = encoded.combine_chunks()
        values = encoded.dictionary.to_pylist()
        codes = np.array(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    except (pyarrow.ArrowException, AttributeError) as error:
        raise ScopeError(
            f"{display_text(name)} holds values that rows cannot be grouped by",
            f"another column for {option('by')}",
        ) from error
    return [_label(value) for value in values], codes


def _label(value: Any) -> Label:
    if isinstance(value, float):
        return MISSING if np.isnan(value) else int(value) if value.is_integer() else value
    if value is None or isinstance(value, int | str):
        return value
    return str(value)


def _rank(label: Any) -> tuple[int, Any]:
    """Return what labels of several types are sorted by."""
    if label is None:
        return 2, 0
    return (0, label) if isinstance(label, int | float) else (1, str(label))


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(display_line(name) for name in names)


def groups_by(table: LensTable, name: str) -> bool:
    """Return whether the rows of a table can be grouped by a name."""
    return name in table.columns or name in (LENGTH, N_TOKENS)


def cluster_of(line: Ints, clusters: Ints, where: str) -> Ints:
    """Return the index of the cluster of each row. [row]

    Args:
        line: the line of the prompt of each row.
        clusters: the lines of all clusters, sorted.
        where: the name of the folder, for the error.

    Raises:
        ScopeError: a row is of a prompt that the folder does not have.
    """
    if not len(clusters):
        at = np.zeros(len(line), np.int64)
        known = np.zeros(len(line), np.bool_)
    else:
        at = np.minimum(np.searchsorted(clusters, line), len(clusters) - 1)
        known = clusters[at] == line
    if not known.all():
        raise ScopeError(
            f"{where} has rows of {LINE} {line[~known][0]}, which is not among its prompts",
            "the batch anew",
        )
    return at
