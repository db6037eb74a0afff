"""Tables of lenses as Parquet, with a schema that documents itself; needs pyarrow."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmscope.errors import ScopeError
from llmscope.figure import Figure
from llmscope.figure.tables.column import Column
from llmscope.figure.tables.rows import axis_columns, rows

if TYPE_CHECKING:
    import pyarrow

KEY = b"llmscope"
"""The key of a file's metadata that describes its columns, as JSON."""
SCHEMA = 2
LINE = Column("line", "int64", "key", "line of the prompt in its file, from 1")
FROM_END = Column("from_end", "int32", "key", "the same counted from the end: −1 is the last token")
"""The column beside `position`, which compares prompts of different lengths."""
STATUS = Column("status", "string", "status", "verdict: verified, partial or unverified")
CLASH = "_input"
"""What is added to the name of an input column that a table has already."""
FLUSH = 1 << 18
"""Rows of a row group."""


def needed() -> None:
    """Check that pyarrow is installed.

    Raises:
        ScopeError: it is not.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ScopeError("tables need pyarrow", "pip install pyarrow") from None


def arrow_type(name: str) -> pyarrow.DataType:
    """Return the type of a column."""
    import pyarrow

    data_type: pyarrow.DataType = getattr(pyarrow, "bool_" if name == "bool" else name)()
    return data_type


def columns_in(declared: Sequence[Column], mode: str, axes: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of a lens's table in their order.

    Args:
        declared: the columns that the lens declares.
        mode: the figure's mode.
        axes: the names of the figure's axes.
    """
    of_mode = [column for column in declared if not column.modes or mode in column.modes]
    keys = [column for column in of_mode if column.role == "key"]
    columns = (*keys, *axis_columns(axes, [column.name for column in of_mode]), *of_mode)
    by_name: dict[str, Column] = {LINE.name: LINE}
    for column in columns:
        by_name.setdefault(column.name, column)
        if column.name == "position":
            by_name.setdefault(FROM_END.name, FROM_END)
    return (*by_name.values(), STATUS)


def table_metadata(
    columns: Sequence[Column], inputs: Sequence[str] = (), **about: Any
) -> dict[bytes, bytes]:
    """Return the metadata of a table.

    Args:
        columns: its own columns.
        inputs: the names of the columns that come from the prompt file.
        about: further entries, such as the lens and its mode.
    """
    record = {
        "schema": SCHEMA,
        **about,
        "columns": {
            **{
                column.name: {"role": column.role, "unit": column.unit, "help": column.help}
                for column in columns
            },
            **{name: {"role": "input", "unit": "", "help": ""} for name in inputs},
        },
    }
    return {KEY: json.dumps(record, ensure_ascii=False).encode()}


def described_in(schema: pyarrow.Schema) -> dict[str, Any] | None:
    """Return what a table's metadata says of it; None if it is not a table of llmscope."""
    try:
        record = json.loads((schema.metadata or {})[KEY])
        if not isinstance(record["columns"], dict):
            return None
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return dict(record)


def input_names(inputs: Iterable[str], names_used: Iterable[str]) -> dict[str, str]:
    """Return the names in the tables of input columns, by their own names.

    Args:
        inputs: the names in the prompt file.
        names_used: the names that the tables have already.
    """
    names, used = {}, set(names_used)
    for name in inputs:
        free = name
        while free in used:
            free += CLASH
        names[name] = free
        used.add(free)
    return names


class TableWriter:
    """Write the table of one lens as a Parquet file in memory, a row group at a time.

    Args:
        lens: the name of the lens.
        mode: its mode.
        declared: the columns that it declares.
        inputs: the types of the input columns, by their names in the table.
    """

    def __init__(
        self,
        lens: str,
        mode: str,
        declared: Sequence[Column],
        inputs: Mapping[str, pyarrow.DataType],
    ) -> None:
        self.lens, self._mode, self._declared, self._inputs = lens, mode, declared, inputs
        self._buffer = io.BytesIO()
        self._writer: Any = None
        self._columns: tuple[Column, ...] = ()
        self._own: list[Column] = []
        self._held: list[tuple[dict[str, Any], int, int, str, Mapping[str, Any]]] = []
        self._count = 0

    def add(self, figure: Figure, line: int, length: int | None, inputs: Mapping[str, Any]) -> None:
        """Add the rows of a figure of a prompt.

        Args:
            figure: the figure, which is not refused.
            line: the line of the prompt.
            length: number of its tokens; None if it is not known.
            inputs: the prompt's input columns, by their names in the table.
        """
        if not self._columns:
            self._columns = columns_in(
                self._declared, self._mode, [axis.name for axis in figure.axes]
            )
            self._own = [column for column in self._columns if column.of is not None]
        columns = rows(figure, self._own)
        count = len(next(iter(columns.values()))) if columns else 0
        if "position" in columns:
            columns[FROM_END.name] = (
                [None] * count if length is None else np.asarray(columns["position"]) - length
            )
        self._held.append((columns, count, line, figure.verdict.status, inputs))
        self._count += count
        if self._count >= FLUSH:
            self._flush()

    def finish(self) -> bytes | None:
        """Return the file; None if no figure was added."""
        if not self._columns:
            return None
        if self._held or self._writer is None:
            self._flush()
        assert self._writer is not None
        self._writer.close()
        return self._buffer.getvalue()

    def _flush(self) -> None:
        import pyarrow

        counts = np.array([row[1] for row in self._held], np.int64)
        arrays = [self._array(column, counts) for column in self._columns]
        repeated = pyarrow.array(np.repeat(np.arange(len(counts)), counts))
        for name, kind in self._inputs.items():
            values = pyarrow.array([row[4].get(name) for row in self._held], kind)
            arrays.append(values.take(repeated))
        fields = [(column.name, arrow_type(column.type)) for column in self._columns]
        about = table_metadata(self._columns, list(self._inputs), lens=self.lens, mode=self._mode)
        schema = pyarrow.schema([*fields, *self._inputs.items()], metadata=about)
        table = pyarrow.Table.from_arrays(arrays, schema=schema)
        self._put(table)
        self._held.clear()
        self._count = 0

    def _put(self, table: pyarrow.Table) -> None:
        import pyarrow.parquet

        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(
                self._buffer, table.schema, compression="zstd", write_page_checksum=True
            )
        self._writer.write_table(table)

    def _array(self, column: Column, counts: Any) -> pyarrow.Array:
        import pyarrow

        kind = arrow_type(column.type)
        if column is LINE or column is STATUS:
            place = 2 if column is LINE else 3
            each = pyarrow.array([row[place] for row in self._held], kind)
            return each.take(pyarrow.array(np.repeat(np.arange(len(counts)), counts)))
        parts = [row[0][column.name] for row in self._held]
        if column.type == "string" or any(isinstance(part, list) for part in parts):
            values = [value for part in parts for value in part]
            if column.type != "string":
                values = [None if value is None or value != value else value for value in values]
            return pyarrow.array(values, kind)
        whole = np.concatenate(parts) if parts else np.zeros(0)
        if whole.dtype.kind == "f":
            mask = np.isnan(whole)
            if column.type.startswith("int"):
                whole = np.where(mask, 0, whole).astype(np.int64)
            return pyarrow.array(whole, mask=mask).cast(kind)
        return pyarrow.array(whole).cast(kind)


class TableBuilder(TableWriter):
    """Build the table of one lens in memory, with the same rows as `TableWriter` writes.

    Args:
        lens, mode, declared, inputs: as of `TableWriter`.
        columns: its own columns, where they are known; empty: those of the first figure.
    """

    def __init__(
        self,
        lens: str,
        mode: str,
        declared: Sequence[Column],
        inputs: Mapping[str, pyarrow.DataType],
        columns: tuple[Column, ...] = (),
    ) -> None:
        super().__init__(lens, mode, declared, inputs)
        self._parts: list[pyarrow.Table] = []
        self._columns = columns
        self._own = [column for column in columns if column.of is not None]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its own columns; empty if they are not known."""
        return self._columns

    def table(self) -> pyarrow.Table | None:
        """Return the rows that were added; None if no column is known."""
        import pyarrow

        if not self._columns:
            return None
        if self._held or not self._parts:
            self._flush()
        return pyarrow.concat_tables(self._parts)

    def _put(self, table: pyarrow.Table) -> None:
        self._parts.append(table)


def parquet_bytes(table: pyarrow.Table) -> bytes:
    """Return a table as a Parquet file."""
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        *(table, buffer, FLUSH), compression="zstd", write_page_checksum=True
    )
    return buffer.getvalue()
