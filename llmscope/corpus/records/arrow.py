"""Read prompts from Parquet; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.figure.tables.parquet import batches, opened_parquet, plain_value

if TYPE_CHECKING:
    import pyarrow


def parquet_rows(
    name: str, shown: str, column: str | None = "prompt"
) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Yield each row's number from 1, its values by column, and the fraction of rows read so far.

    Args:
        name: path of the file.
        shown: the path as error messages print it.
        column: the column that it must have; None needs none.

    Raises:
        ScopeError: the file is not a Parquet file, or lacks that column.
    """
    with opened_parquet(name, shown) as file:
        columns = _names(file.schema_arrow, shown, column)
        number, total = 0, file.metadata.num_rows
        for batch in batches(file, name, columns, shown):
            for index in range(len(batch)):
                number += 1
                row = {column: plain_value(batch[column][index]) for column in columns}
                yield number, row, number / total


def parquet_types(name: str, shown: str) -> tuple[dict[str, pyarrow.DataType], int]:
    """Return the types of a file's columns except `prompt`, by name, and its number of rows.

    Args:
        name: path of the file.
        shown: the path as error messages print it.

    Raises:
        ScopeError: the file is not a Parquet file, or has no column `prompt`.
    """
    with opened_parquet(name, shown) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    names = [one for one in _names(schema, shown) if one != "prompt"]
    return {one: _plain(schema.field(one).type) for one in names}, rows


def _names(schema: pyarrow.Schema, shown: str, column: str | None = "prompt") -> list[str]:
    if column is not None and column not in schema.names:
        raise ScopeError(f"{shown} has no column {column}", "a file with one")
    names = list(dict.fromkeys(schema.names))
    if len(names) < len(schema.names):
        raise ScopeError(f"{shown} has two columns of one name", "another file")
    return names


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return the type of the values of a dictionary column; others stay as they are."""
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind
