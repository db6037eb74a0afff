"""A file of records, read one by one: JSON lines, CSV, Parquet and others, with the line of each.

A record that cannot be read is reported, and reading continues. At most one line is held in memory
at a time.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from llmscope.errors import ScopeError
from llmscope.support.lines import (
    TOO_LONG,
    LineError,
    json_of,
    open_file,
    other_unicode,
    raw_lines,
    regular_size,
)
from llmscope.support.storage import file_system, is_url
from llmscope.support.text import display_line, display_text, error_line

STDIN = "-"


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        number: its line from 1; in Parquet its row, in a JSON list its place.
        value: what it holds; None if it cannot be read.
        error: why it cannot be read; empty if it can.
    """

    number: int
    value: Any = None
    error: str = ""


class RecordFile(ABC):
    """A file of records.

    Args:
        name: its path or URL; `STDIN` for JSON lines on stdin.

    Attributes:
        kind: what the records are, in words.
        formats: the formats that such a file has, which are its suffixes without their dot.
        strict: whether JSON that leaves something open is an error of its record.
        shown: the name, safe to print.
        format: the format of this file.

    Raises:
        ScopeError: its suffix is not that of a known format.
    """

    kind: ClassVar[str]
    formats: ClassVar[Sequence[str]]
    strict: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self.shown = "stdin" if name == STDIN else display_line(name)
        self.format = "jsonl" if name == STDIN else Path(name).suffix.lower().removeprefix(".")
        self._name = name
        self._read = 0.0
        if self.format not in self.formats:
            known = [f".{suffix}" for suffix in self.formats]
            raise ScopeError(
                f"{self.shown} is no file of {self.kind}",
                f"a {', '.join(known[:-1])} or {known[-1]} file",
            )

    @property
    def read(self) -> float | None:
        """The fraction of the file read so far, from 0 to 1; None for stdin (size unknown)."""
        return None if self._name == STDIN else self._read

    @property
    def unit(self) -> str:
        """What the numbers of its records count."""
        return {"parquet": "row", "json": "entry"}.get(self.format, "line")

    def place(self, number: int) -> str:
        """Return the name of the file with the number of a record, safe to print."""
        return f"{self.shown}, {self.unit} {number}"

    def records(self) -> Generator[Record]:
        """Yield the records; empty lines are left out.

        Raises:
            ScopeError: the rest of the file cannot be read.
        """
        with self._open_bytes() as stream:
            if self.format == "parquet":
                yield from self._parquet_records(stream if is_url(self._name) else self._name)
                return
            begin = stream.peek(4)[:4] if hasattr(stream, "peek") else b""
            if encoding := other_unicode(begin):
                raise ScopeError(f"{self.shown} is {encoding}", "the same file saved as UTF-8")
            size = regular_size(stream)
            for record in self._text_records(stream):
                if size is not None:
                    self._read = min(1.0, stream.tell() / size) if size else 1.0
                yield record

    @abstractmethod
    def _columns(self, names: Sequence[str]) -> Sequence[str]:
        """Return which columns of a Parquet file are read.

        Raises:
            ScopeError: it lacks one that it must have.
        """

    def _text_records(self, stream: BinaryIO) -> Iterator[Record]:
        """Yield the records of JSON lines; of other formats, what a kind of file makes of them."""
        for number, raw in enumerate(raw_lines(stream), 1):
            if raw is None:
                yield Record(number, error=TOO_LONG)
            elif raw.strip():
                try:
                    yield Record(number, json_of(raw, strict=self.strict))
                except LineError as error:
                    yield Record(number, error=str(error))

    def _parquet_records(self, source: str | BinaryIO) -> Iterator[Record]:
        from llmscope.figure.tables.parquet import batches, open_parquet, plain_value

        with open_parquet(source, self.shown) as file:
            names = self._columns(unique_names(file.schema_arrow.names, self.shown))
            number, total = 0, file.metadata.num_rows
            for batch in batches(file, source, names, self.shown):
                for index in range(len(batch)):
                    number += 1
                    self._read = number / total
                    yield Record(number, {name: plain_value(batch[name][index]) for name in names})

    @contextmanager
    def _open_bytes(self) -> Iterator[Any]:
        try:
            if self._name == STDIN:
                yield sys.stdin.buffer
            else:
                with self._remote() if is_url(self._name) else open_file(self._name) as stream:
                    yield stream
        except LineError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
            reason = display_text(getattr(error, "strerror", None) or error_line(error))
            raise ScopeError(f"cannot read {self.shown}: {reason}", "another file") from error

    def _remote(self) -> Any:
        try:
            system, inside = file_system(self._name)
            return system.open(inside, "rb")
        except ScopeError as error:
            raise ScopeError(error.message, "another file") from error
        except OSError:
            raise
        except Exception as error:  # each file system raises its own
            raise ScopeError(
                f"cannot read {self.shown}: {error_line(error)}", "another file"
            ) from error


def unique_names(names: Sequence[str], file: str) -> list[str]:
    """Return the names of columns.

    Raises:
        ScopeError: two are the same.
    """
    if len(set(names)) < len(names):
        raise ScopeError(f"{file} has two columns of one name", "another file")
    return list(names)
