"""Parquet reading and writing; needs pyarrow."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError
from llmscope.text import display_text

if TYPE_CHECKING:
    import pyarrow

ROWS = 256
"""Number of rows read at once."""


def needed() -> None:
    """Check that pyarrow is installed.

    Raises:
        ScopeError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ScopeError("batches need pyarrow", "pip install pyarrow") from None


def parquet_rows(name: str, shown: str) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Yield each row's number from 1, its `prompt` and `id`, and the fraction of rows read so far.

    Args:
        name: path of the file.
        shown: the path as error messages print it.

    Raises:
        ScopeError: the file is not a Parquet file, or has no column `prompt`.
    """
    needed()
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(name) as file:
            columns = [one for one in ("prompt", "id") if one in file.schema_arrow.names]
            if "prompt" not in columns:
                raise ScopeError(f"{shown} has no column prompt", "a file with one")
            number, total = 0, file.metadata.num_rows
            for batch in file.iter_batches(batch_size=ROWS, columns=columns):
                for index in range(len(batch)):
                    number += 1
                    row = {column: _value(batch[column][index]) for column in columns}
                    yield number, row, number / total
    except pyarrow.ArrowException as error:
        reason = display_text(" ".join(str(error).split()))[:200]
        raise ScopeError(f"cannot read {shown}: {reason}", "another file") from error


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


def index_bytes(columns: Mapping[str, list[Any]], about: str) -> bytes:
    """Return the bytes of a Parquet file with these columns; see `shards.COLUMNS`.

    Args:
        columns: the values of each column, by name.
        about: text stored in the file's metadata under the key `llmscope`.
    """
    import pyarrow
    import pyarrow.parquet

    text, number = pyarrow.string(), pyarrow.int64()
    schema = pyarrow.schema(
        [
            ("line", number),
            ("id", text),
            ("prompt", text),
            ("ids", pyarrow.list_(number)),
            ("tokens", pyarrow.list_(text)),
            ("shard", text),
            ("arrays", pyarrow.list_(text)),
            ("figures", text),
            ("error", text),
        ],
        metadata={"llmscope": about},
    )
    return _table_bytes(pyarrow.table(dict(columns), schema=schema))


def _table_bytes(table: pyarrow.Table) -> bytes:
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


@cache
def _writer() -> str:
    """Return the `created_by` string that this version of pyarrow writes into a file."""
    import pyarrow.parquet

    empty = io.BytesIO(_table_bytes(pyarrow.table({"line": []})))
    writer: str = pyarrow.parquet.read_metadata(empty).created_by
    return writer


def read_index(
    path: Path, columns: Sequence[str]
) -> tuple[str, list[tuple[int, str | None, str | None]]] | None:
    """Return an index's metadata text, and the line, prompt and error of each row.

    Return None if the file is damaged or has other columns. Page checksums are verified. To detect
    damage outside their coverage, the table is written again and compared byte for byte; this is
    possible only with the version of pyarrow that wrote the file.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        data = path.read_bytes()
        with pyarrow.parquet.ParquetFile(io.BytesIO(data), page_checksum_verification=True) as file:
            table = file.read()
            ours = file.metadata.created_by == _writer()
        held = {name: table[name].to_pylist() for name in columns}
        about = (table.schema.metadata or {})[b"llmscope"].decode("utf-8")
        if tuple(table.column_names) != tuple(columns):
            return None
        if ours and index_bytes(held, about) != data:
            return None
    except (OSError, ValueError, LookupError, pyarrow.ArrowException):
        return None
    return about, list(zip(held["line"], held["prompt"], held["error"], strict=True))
