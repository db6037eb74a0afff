"""Open foreign Parquet files; needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from llmscope.errors import ScopeError
from llmscope.tables.arrow import needed
from llmscope.text import display_text

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet


@contextmanager
def opened_parquet(name: str | BinaryIO, shown: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Yield a Parquet file; errors of it within the block are told in one line.

    Raises:
        ScopeError: it is not a Parquet file, or is damaged.
    """
    needed()
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(name) as file:
            yield file
    except pyarrow.ArrowException as error:
        reason = display_text(" ".join(str(error).split()))[:200]
        raise ScopeError(f"cannot read {shown}: {reason}", "another file") from error


def plain_value(scalar: Any) -> Any:
    """Return the value of a cell; bytes that are not UTF-8 become lone surrogates."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
