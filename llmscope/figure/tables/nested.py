"""Tables inside of a table: a column in which each row holds the rows of another table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from llmscope.figure.tables.arrow import LINE

if TYPE_CHECKING:
    import pyarrow


def renumber_lines(table: pyarrow.Table, lines: Sequence[int | None]) -> pyarrow.Table:
    """Return the table with other lines.

    Args:
        table: a table whose lines count from 0.
        lines: the new line of each; None where it is not known.
    """
    import pyarrow

    numbers = pyarrow.array(lines, "int64").take(table[LINE.name])
    return table.set_column(0, LINE.name, numbers)


def nest_rows(
    name: str, table: pyarrow.Table, ends: Sequence[int], lines: Sequence[int | None]
) -> tuple[pyarrow.Field, pyarrow.Array]:
    """Return a table's rows as a column of lists, and the field, which keeps the table's metadata.

    Args:
        name: the name of the column.
        table: its column `line` counts from 0, ascending.
        ends: for each list, the first line that is no longer in it.
        lines: `lines[i]` is written in place of line `i`; None: not known.
    """
    import pyarrow

    cuts = np.searchsorted(table[LINE.name].to_numpy(), [0, *ends])
    struct = renumber_lines(table, lines).to_struct_array().combine_chunks()
    lists = pyarrow.LargeListArray.from_arrays(pyarrow.array(cuts, "int64"), struct)
    return pyarrow.field(name, lists.type, metadata=table.schema.metadata), lists


def unnest_row(table: pyarrow.Table, name: str, row: int) -> pyarrow.Table:
    """Return the table that a row of a column holds, with its metadata.

    Args:
        table: a table with a column as of `nest_rows`.
        name: the name of the column.
        row: the row.
    """
    import pyarrow

    batch = pyarrow.RecordBatch.from_struct_array(table[name][row].values)
    metadata = table.schema.field(name).metadata
    return pyarrow.Table.from_batches([batch]).replace_schema_metadata(metadata)
