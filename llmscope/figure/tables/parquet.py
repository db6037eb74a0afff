"""Open foreign Parquet files, in bounded memory and time; needs pyarrow.

What a file declares of its sizes may be untrue, and a kilobyte can hold gigabytes. So each part of
a file of this machine is first read in a child process with limits, in the same way and from the
same columns: what the child could read, this process can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llmscope.errors import ScopeError
from llmscope.figure.tables.arrow import needed
from llmscope.support.lines import open_file
from llmscope.support.sandbox import MIB, CallError, FunctionError, MemoryLimitError, Worker
from llmscope.support.text import display_text, one_line

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

MOST_COLUMNS = 2_000
MOST_CHUNKS = 1 << 18
"""Maximum number of columns times row groups, each of which the footer describes."""
MOST_ROWS, TABLE_BYTES = 1 << 24, 1 << 28
"""Maximum rows and bytes in memory of the columns that are read of a whole table."""
ROWS, BATCH_BYTES = 256, 1 << 25
"""Rows that are read at once; fewer where those of the file are so large that they exceed this."""
BLOCK_ROWS = 1 << 12
"""Rows of small row groups that the child reads in one call."""
MEMORY = 1280 * MIB
"""Address space of the child; it takes a quarter of it before it opens a file."""
SECONDS = 20.0
"""Time for a row group, or for the columns of a table."""


@contextmanager
def open_parquet(name: str | BinaryIO, file_name: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Yield a Parquet file; errors of it within the block are told in one line.

    Args:
        name: its path, or an open file, of which only the declared sizes are checked.
        file_name: the path as error messages print it.

    Raises:
        ScopeError: it is not a Parquet file, is damaged, or over a limit.
        OSError: it cannot be opened, or is no regular file.
    """
    needed()
    import pyarrow
    import pyarrow.parquet

    if isinstance(name, str):
        open_file(name).close()
        _rehearse(file_name, "footer", _path(name))
    try:
        with pyarrow.parquet.ParquetFile(name) as file:
            check_declared(file.metadata)
            yield file
    except (pyarrow.ArrowException, ValueError) as error:
        raise _unreadable(file_name, str(error)) from error


def batches(
    file: pyarrow.parquet.ParquetFile,
    name: str | BinaryIO,
    columns: Sequence[str],
    file_name: str,
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of some columns, a few at a time.

    Args:
        file: the file, from `open_parquet`.
        name: its path, or the open file.
        columns: the columns that are read.
        file_name: the path as error messages print it.

    Raises:
        ScopeError: a row group is damaged or over a limit.
    """
    for block in _blocks(file.metadata):
        if isinstance(name, str):
            _rehearse(file_name, "groups", _path(name), block, list(columns))
        for group, size in block:
            yield from file.iter_batches(size, row_groups=[group], columns=list(columns))


def _blocks(metadata: pyarrow.parquet.FileMetaData) -> Iterator[list[tuple[int, int]]]:
    """Yield the row groups that are rehearsed together, each with the rows to read at once."""
    block: list[tuple[int, int]] = []
    rows = 0
    for at in range(metadata.num_row_groups):
        group = metadata.row_group(at)
        block.append((at, batch_rows(group)))
        rows += max(1, group.num_rows)
        if rows >= BLOCK_ROWS:
            yield block
            block, rows = [], 0
    if block:
        yield block


def read_table(
    name: str | None,
    source: Any,
    columns: Sequence[str],
    file_name: str,
    *,
    checksums: bool = False,
) -> pyarrow.Table:
    """Return columns of a file as a table.

    Args:
        name: the file's path; None for a file of another machine.
        source: what pyarrow reads the file from.
        columns: the columns that are read; the file has them.
        file_name: the path as error messages print it.
        checksums: check those of the pages.

    Raises:
        ScopeError: it is damaged or over a limit.
        OSError: it cannot be opened, or is no regular file.
    """
    import pyarrow
    import pyarrow.parquet

    if name is not None:
        open_file(name).close()
        _rehearse(file_name, "table", _path(name), list(columns), checksums)
    try:
        with pyarrow.parquet.ParquetFile(source, page_checksum_verification=checksums) as file:
            check_table(file.metadata, columns)
            return file.read(columns=list(columns))
    except (pyarrow.ArrowException, ValueError) as error:
        raise _unreadable(file_name, str(error)) from error


def batch_rows(group: pyarrow.parquet.RowGroupMetaData) -> int:
    """Return how many rows of a row group are read at once."""
    per_row = max(1, group.total_byte_size // max(1, group.num_rows))
    return int(max(1, min(ROWS, BATCH_BYTES // per_row)))


def check_declared(metadata: pyarrow.parquet.FileMetaData) -> None:
    """Check how many columns and row groups a file declares.

    Raises:
        ValueError: they are too many.
    """
    columns, groups = metadata.num_columns, metadata.num_row_groups
    if columns > MOST_COLUMNS:
        raise ValueError(f"it has {columns:,} columns, more than {MOST_COLUMNS:,}")
    if columns * groups > MOST_CHUNKS:
        raise ValueError(f"it has {groups:,} row groups of {columns:,} columns, which are too many")


def check_table(metadata: pyarrow.parquet.FileMetaData, columns: Sequence[str]) -> None:
    """Check what a file declares of columns that are read whole.

    Raises:
        ValueError: they are too large.
    """
    check_declared(metadata)
    if metadata.num_rows > MOST_ROWS:
        raise ValueError(f"it has {metadata.num_rows:,} rows, more than {MOST_ROWS:,}")
    size, wanted = 0, set(columns)
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        for at in range(chunks.num_columns):
            chunk = chunks.column(at)
            if chunk.path_in_schema.partition(".")[0] in wanted:
                size += max(0, chunk.total_uncompressed_size)
    if size > TABLE_BYTES:
        raise ValueError(
            f"{', '.join(map(one_line, columns))} take {size >> 20:,} MB, of {TABLE_BYTES >> 20}"
        )


def is_too_large(metadata: pyarrow.parquet.FileMetaData, columns: Sequence[str]) -> bool:
    """Return whether a file declares more in some columns than a table may hold."""
    try:
        check_table(metadata, columns)
    except ValueError:
        return True
    return False


def plain_value(scalar: Any) -> Any:
    """Return the value of a cell; bytes that are not UTF-8 become lone surrogates."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


@cache
def _worker() -> Worker:
    return Worker("llmscope.figure.tables.parquet", memory=MEMORY)


def _path(name: str) -> str:
    return str(Path(name).absolute())


def _rehearse(file_name: str, what: str, *arguments: Any) -> None:
    """Read a part of a file in the child.

    Raises:
        ScopeError: the child could not read it.
    """
    try:
        _worker().call(f"rehearse_{what}", *arguments, seconds=SECONDS)
    except FunctionError as error:
        if "MemoryError" not in error.kind:
            raise _unreadable(file_name, str(error)) from error
        raise _unreadable(file_name, f"it needs more than {MEMORY // MIB} MB of memory") from error
    except (CallError, MemoryLimitError) as error:
        raise _unreadable(file_name, str(error)) from error


def _unreadable(file_name: str, reason: str) -> ScopeError:
    cut = display_text(" ".join(reason.split()))[:200]
    return ScopeError(f"cannot read {file_name}: {cut}", "another file, or one of smaller parts")


def rehearse_footer(path: str) -> None:
    """Read what a file tells of itself. Runs in the child, as the two below do."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        check_declared(file.metadata)


def rehearse_groups(path: str, block: Sequence[tuple[int, int]], columns: Sequence[str]) -> None:
    """Read row groups as `batches` does."""
    status = os.stat(path)
    file = _open_once(path, status.st_ino, status.st_size, status.st_mtime_ns)
    for group, size in block:
        for batch in file.iter_batches(size, row_groups=[group], columns=list(columns)):
            batch.validate(full=True)


@lru_cache(maxsize=1)
def _open_once(path: str, *_: int) -> pyarrow.parquet.ParquetFile:
    """Return a file, opened once for all of its row groups. Runs in the child.

    Args:
        path: the file; the rest tells whether it is still the same one.
    """
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def rehearse_table(path: str, columns: Sequence[str], checksums: bool) -> None:
    """Read columns as `read_table` does.

    Raises:
        ValueError: they take too much memory.
    """
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, page_checksum_verification=checksums) as file:
        check_table(file.metadata, columns)
        table = file.read(columns=list(columns))
        table.validate(full=True)
    if len(table) > MOST_ROWS or table.nbytes > TABLE_BYTES:
        raise ValueError(
            f"its columns take {table.nbytes >> 20:,} MB in {len(table):,} rows, more than "
            f"{TABLE_BYTES >> 20} MB or {MOST_ROWS:,} rows"
        )
