"""Files of transcripts: JSON lines, JSON, Parquet; here, at a URL, or on stdin."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from llmscope.corpus.records.transcripts.records import (
    COLUMNS,
    EXAMPLE,
    MOST_TURNS,
    is_message,
    transcript_of,
)
from llmscope.corpus.records.transcripts.transcript import Transcript
from llmscope.errors import ScopeError, option
from llmscope.support.lines import (
    TOO_LONG,
    LineError,
    TooLargeError,
    json_of,
    open_file,
    other_unicode,
    raw_lines,
    read_stream,
    regular_size,
)
from llmscope.support.storage import file_system, is_url
from llmscope.support.text import display_text, told

STDIN = "-"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


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


class TranscriptFile:
    """A file of transcripts.

    Args:
        name: its path or URL; `-` for JSON lines on stdin.

    Raises:
        ScopeError: its suffix is not that of a known format.
    """

    def __init__(self, name: str) -> None:
        self.shown = "stdin" if name == STDIN else display_text(name).replace("\n", " ")
        self._name = name
        self._suffix = ".jsonl" if name == STDIN else Path(name).suffix.lower()
        if self._suffix not in SUFFIXES:
            raise ScopeError(
                f"{self.shown} is no file of transcripts", "a .jsonl, .json or .parquet file"
            )
        self._unit = {".parquet": "row", ".json": "entry"}.get(self._suffix, "line")

    def read(self, line: int | None = None, *, rejected: bool = False) -> tuple[Transcript, bool]:
        """Return a transcript, and whether the file has others after it.

        A file with one message a line is one transcript.

        Args:
            line: its line, from 1; None takes the first one.
            rejected: take the rejected answer of a pair, and not the chosen one.

        Raises:
            ScopeError: the file or the line cannot be read, or is no transcript.
        """
        records = self._records()
        try:
            for record in records:
                if line is None or record.number == line:
                    return self._transcript(record, records, line, rejected)
        finally:
            records.close()
        if line is None:
            raise ScopeError(f"{self.shown} is empty", f"a line such as {EXAMPLE}")
        raise ScopeError(
            f"{self.shown} has no transcript on {self._unit} {line}", f"another {option('line')}"
        )

    def _transcript(
        self, record: Record, others: Iterator[Record], line: int | None, rejected: bool
    ) -> tuple[Transcript, bool]:
        value = self._value(record)
        if line is not None or not is_message(value):
            if is_message(value):
                raise ScopeError(
                    f"{self._where(record)}: it is one message: the file is one transcript",
                    f"the same without {option('line')}",
                )
            transcript = transcript_of(value, self._where(record), record.number, rejected=rejected)
            return transcript, next(others, None) is not None
        messages = [value]
        for other in others:
            message = self._value(other)
            if not is_message(message):
                raise ScopeError(
                    f"{self._where(other)}: it is no message, unlike the lines before",
                    "a file with one message on each line, or one transcript",
                )
            messages.append(message)
            if len(messages) > MOST_TURNS:
                break  # which is refused
        return transcript_of(messages, self.shown, record.number, rejected=rejected), False

    def _value(self, record: Record) -> Any:
        if record.error:
            raise ScopeError(f"{self._where(record)}: {record.error}", f"a line such as {EXAMPLE}")
        return record.value

    def _where(self, record: Record) -> str:
        return f"{self.shown}, {self._unit} {record.number}"

    def _records(self) -> Generator[Record]:
        """Yield the records; empty lines are left out.

        Raises:
            ScopeError: the rest of the file cannot be read.
        """
        with self._opened() as stream:
            if self._suffix == ".parquet":
                yield from self._of_parquet(stream if is_url(self._name) else self._name)
                return
            begin = stream.peek(4)[:4] if hasattr(stream, "peek") else b""
            if found := other_unicode(begin):
                raise ScopeError(f"{self.shown} is {found}", "the same file saved as UTF-8")
            yield from (self._of_json if self._suffix == ".json" else _of_lines)(stream)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            if self._name == STDIN:
                yield sys.stdin.buffer
            elif is_url(self._name):
                with self._remote() as stream:
                    yield stream
            else:
                with open_file(self._name) as stream:
                    yield stream
        except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
            if isinstance(error, LineError):
                raise
            reason = display_text(getattr(error, "strerror", None) or told(error))
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
            raise ScopeError(f"cannot read {self.shown}: {told(error)}", "another file") from error

    def _of_json(self, stream: BinaryIO) -> Iterator[Record]:
        try:
            raw = read_stream(stream, "transcripts", regular_size(stream))
        except TooLargeError as error:
            raise ScopeError(f"{self.shown}: {error}", "JSON lines, with one a line") from None
        raw = raw.removeprefix(codecs.BOM_UTF8)
        if not raw.strip():
            return
        try:
            whole = json_of(raw, strict=True)
        except LineError as error:
            raise ScopeError(f"{self.shown}: {error}", "a file of JSON") from None
        if isinstance(whole, list) and whole and not is_message(whole[0]):
            yield from (Record(number, value) for number, value in enumerate(whole, 1))
        else:
            yield Record(1, whole)

    def _of_parquet(self, source: str | BinaryIO) -> Iterator[Record]:
        from llmscope.figure.tables.parquet import batches, opened_parquet, plain_value

        with opened_parquet(source, self.shown) as file:
            names = list(dict.fromkeys(file.schema_arrow.names))
            if len(names) < len(file.schema_arrow.names):
                raise ScopeError(f"{self.shown} has two columns of one name", "another file")
            number, names = 0, [name for name in names if name in COLUMNS]
            for batch in batches(file, source, names, self.shown):
                for index in range(len(batch)):
                    number += 1
                    row = {name: plain_value(batch[name][index]) for name in names}
                    yield Record(number, without_missing(row))


def without_missing(value: Any) -> Any:
    """Return a value of Parquet without the keys that are None: a column holds all keys of all."""
    if isinstance(value, dict):
        return {name: without_missing(one) for name, one in value.items() if one is not None}
    return [without_missing(one) for one in value] if isinstance(value, list) else value


def _of_lines(stream: BinaryIO) -> Iterator[Record]:
    for number, raw in enumerate(raw_lines(stream), 1):
        if raw is None:
            yield Record(number, error=TOO_LONG)
        elif raw.strip():
            try:
                yield Record(number, json_of(raw, strict=True))
            except LineError as error:
                yield Record(number, error=str(error))
