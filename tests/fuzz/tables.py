"""Mutations of Parquet files: their bytes, the footer at their end, and tables that are hostile."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from tests.fuzz.mutations import HOSTILE, copied, mutate_bytes, mutate_value

COMPRESSIONS = ("zstd", "snappy", "gzip", "none")
FOOTER = 4000
"""Bytes at the end of a file in which its sizes are."""
LARGE = 64 << 20
"""Bytes of a file whose size alone tells what it costs to read."""


def mutate_parquet(data: bytes, rng: random.Random) -> bytes:
    """Return a Parquet file with its bytes, its footer or its content changed."""
    change = rng.randrange(8)
    if change < 2:
        return mutate_bytes(data, rng)
    if change < 4:
        start = max(0, len(data) - rng.choice((100, FOOTER)))
        return data[:start] + mutate_bytes(data[start:], rng)
    table = parquet.read_table(io.BytesIO(data))
    table = hostile_table(table, rng) if change < 7 else mutated_rows(table, rng)
    # One value in all rows is written once: again and again it would fill this process's memory.
    once = len(table) >= 5000 or any(map(pyarrow.types.is_dictionary, table.schema.types))
    out = io.BytesIO()
    try:
        parquet.write_table(
            table,
            out,
            row_group_size=1 << 30 if once else rng.choice((1, 3, 1000, 1 << 30)),
            compression=rng.choice(COMPRESSIONS),
            use_dictionary=once or rng.random() < 0.8,
            store_schema=rng.random() < 0.5,
        )
    except pyarrow.ArrowException:  # not all that Arrow holds can be written
        return mutate_bytes(data, rng)
    whole = out.getvalue()
    if len(whole) > LARGE:
        return mutate_bytes(data, rng)
    return mutate_bytes(whole, rng) if rng.random() < 0.2 else whole


def mutated_rows(table: pyarrow.Table, rng: random.Random) -> pyarrow.Table:
    """Return a table of mutated rows; the table itself where Arrow has no type for them."""
    rows = mutate_value(table.to_pylist(), rng)
    try:
        return pyarrow.Table.from_pylist(rows).replace_schema_metadata(table.schema.metadata)
    except (pyarrow.ArrowException, TypeError, ValueError, AttributeError, OverflowError):
        return table


def hostile_table(table: pyarrow.Table, rng: random.Random) -> pyarrow.Table:
    """Return a table with a column that is huge, of another type, renamed, repeated or gone."""
    at = rng.randrange(table.num_columns)
    name, rows = table.schema.names[at], max(1, len(table))
    change = rng.randrange(7)
    if change == 0:
        return of_one_value(table, "a" * rng.choice((1000, 4_000_000)), rng.choice((rows, 1000)))
    if change == 1:
        return of_one_value(table, rng.choice((1, 0.5, None)), rng.choice((10**5, 10**6)))
    if change == 2:
        many = {f"c{index}": pyarrow.nulls(rows) for index in range(rng.choice((300, 5000)))}
        return pyarrow.table({**dict(zip(table.schema.names, table.columns, strict=True)), **many})
    if change == 3:
        return table.drop_columns([name])
    if change == 4:
        other = rng.choice((*table.schema.names, "", "\x1b[31m", "a" * 1000, "../x"))
        return table.rename_columns([other if one == name else one for one in table.schema.names])
    values: Any = rng.choice(HOSTILE)
    try:
        column = pyarrow.array([copied(values)] * rows)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
        column = pyarrow.nulls(rows)
    return table.set_column(at, name, column)


def of_one_value(table: pyarrow.Table, value: Any, rows: int) -> pyarrow.Table:
    """Return a table with the columns of another, and one value in all of their rows."""
    indices = pyarrow.nulls(rows, pyarrow.int32()).fill_null(0)
    column = pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([value]))
    return pyarrow.table(
        dict.fromkeys(table.schema.names, column), metadata=table.schema.metadata or {}
    )
