"""Prompts as a stream, from JSON lines, CSV, TSV, Parquet or plain text, with the line of each.

A line that cannot be read as a prompt is reported, and reading continues. At most one line is held
in memory at a time.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from llmscope.corpus.records.arrow import parquet_rows, parquet_types
from llmscope.errors import ScopeError
from llmscope.figure.tables.rows import plain_text
from llmscope.support.lines import (
    LONGEST,
    TOO_LONG,
    LineError,
    json_of,
    open_file,
    other_unicode,
    raw_lines,
)
from llmscope.support.text import display_text, told

STDIN = "-"

_NO_TEXT = "its prompt is no text"


@dataclass(frozen=True)
class PromptLine:
    """One prompt, or the reason why its line could not be read.

    Attributes:
        number: the line where it begins in its file, from 1; for Parquet, the row.
        prompt: the text; None if it could not be read.
        error: what is wrong with the line; empty if it could be read.
        inputs: its other columns, such as `id`, by their names. They never name a file or an
            array.
    """

    number: int
    prompt: str | None
    error: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)


class PromptSource:
    """A file of prompts, or stdin with JSON lines.

    Args:
        name: the path, or `STDIN`.
        column: the column with the prompts; None for records of another kind, whose columns are
            all in `inputs`. A line of plain text is the column `text` of its record.

    Raises:
        ScopeError: the file cannot be read, or its suffix is not that of a known format.
    """

    def __init__(self, name: str, column: str | None = "prompt") -> None:
        self._column = column
        self.shown = "stdin" if name == STDIN else display_text(name).replace("\n", " ")
        self._name = name
        self._read = 0.0
        suffix = ".jsonl" if name == STDIN else Path(name).suffix.lower()
        self.format = suffix.removeprefix(".")
        if self.format not in (*_FORMATS, "parquet"):
            raise ScopeError(
                f"{self.shown} is no file of prompts",
                "a .jsonl, .csv, .tsv, .parquet or .txt file",
            )
        if name != STDIN:
            try:
                open_file(name).close()
            except (OSError, ValueError) as error:  # ValueError: a name with NUL in it
                raise self._failed(error) from error

    @property
    def read(self) -> float | None:
        """The fraction of the file read so far, from 0 to 1; None for stdin (size unknown)."""
        return None if self._name == STDIN else self._read

    def arrow_types(self) -> tuple[dict[str, Any], int] | None:
        """Return the types of a Parquet file's columns except the prompt, and its rows.

        None for another format, whose lines say what they hold.

        Raises:
            ScopeError: the file cannot be read, or has no column `prompt`.
        """
        if self.format != "parquet":
            return None
        try:
            return parquet_types(self._name, self.shown)
        except OSError as error:
            raise self._failed(error) from error

    def __iter__(self) -> Iterator[PromptLine]:
        """Yield each line with its prompt or its error; empty lines are left out.

        Raises:
            ScopeError: the rest of the file cannot be read.
        """
        try:
            if self.format == "parquet":
                for number, row, read in parquet_rows(self._name, self.shown, self._column):
                    self._read = read
                    yield _line_of(number, row, self._column)
            elif self._name == STDIN:
                yield from _FORMATS[self.format](sys.stdin.buffer, self.shown, self._column)
            else:
                yield from self._of_file()
        except OSError as error:
            raise self._failed(error) from error

    def _of_file(self) -> Iterator[PromptLine]:
        with open_file(self._name) as stream:
            size = os.fstat(stream.fileno()).st_size
            found = other_unicode(stream.read(4))
            if found:
                raise ScopeError(f"{self.shown} is {found}", "the same file saved as UTF-8")
            stream.seek(0)
            for line in _FORMATS[self.format](stream, self.shown, self._column):
                self._read = min(1.0, stream.tell() / size) if size else 1.0
                yield line

    def _failed(self, error: Exception) -> ScopeError:
        reason = display_text(getattr(error, "strerror", None) or str(error))
        return ScopeError(f"cannot read {self.shown}: {reason}", "another file")


def prompt_line(number: int, prompt: Any, inputs: Mapping[str, Any]) -> PromptLine:
    """Return a prompt, or the reason why what is in its place is not one.

    Args:
        number: its line.
        prompt: what its column holds.
        inputs: the other columns.
    """
    if not isinstance(prompt, str):
        wrong = "it has no prompt" if prompt is None else _NO_TEXT
        return PromptLine(number, None, wrong, inputs)
    if len(prompt) > LONGEST:
        return PromptLine(number, None, TOO_LONG, inputs)
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        return PromptLine(number, None, "its prompt is not valid Unicode", inputs)
    return PromptLine(number, prompt, inputs=inputs)


def _line_of(number: int, record: dict[str, Any], column: str | None) -> PromptLine:
    """Return the prompt of a record; without a column the record itself, with an empty prompt."""
    if column is None:
        return PromptLine(number, "", inputs=record)
    return prompt_line(number, record.pop(column, None), record)


def _txt(stream: BinaryIO, _: str, column: str | None) -> Iterator[PromptLine]:
    for number, raw in enumerate(raw_lines(stream), 1):
        if raw is None:
            yield PromptLine(number, None, error=TOO_LONG)
        elif raw.strip():
            try:
                text = raw.decode("utf-8")
                yield _line_of(number, {column or "text": text}, column)
            except UnicodeDecodeError as error:
                yield PromptLine(number, None, error=f"it is not UTF-8 (byte {error.start})")


def _jsonl(stream: BinaryIO, _: str, column: str | None) -> Iterator[PromptLine]:
    for number, raw in enumerate(raw_lines(stream), 1):
        if raw is None:
            yield PromptLine(number, None, error=TOO_LONG)
        elif raw.strip():
            yield _of_json(number, raw, column)


def _of_json(number: int, raw: bytes, column: str | None) -> PromptLine:
    try:
        record = json_of(raw)
    except LineError as error:
        return PromptLine(number, None, error=str(error))
    if not isinstance(record, dict):
        example = ' such as {"prompt": "…"}' if column else ""
        return PromptLine(number, None, error=f"it is no object{example}")
    named = {plain_text(name): value for name, value in record.items()}
    return _line_of(number, named, column)


def _csv(
    stream: BinaryIO, shown: str, column: str | None, delimiter: str = ","
) -> Iterator[PromptLine]:
    csv.field_size_limit(LONGEST)
    # Bytes that are not UTF-8 become lone surrogates, so that only their own row fails.
    texts = (
        "\0" * (LONGEST + 1) if raw is None else raw.decode("utf-8", "surrogateescape") + "\n"
        for raw in raw_lines(stream)
    )
    reader = csv.reader(texts, delimiter=delimiter)
    header = _header(reader, shown, column, delimiter)
    places: dict[str, int] = {}
    for at, name in enumerate(header):
        if name != column or name not in places:
            places |= {plain_text(name): at} if name else {}
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield PromptLine(number, None, error=f"it is not CSV: {told(error)}")
            continue
        if row:
            record = {name: row[at] if at < len(row) else None for name, at in places.items()}
            yield _line_of(number, record, column)


def _header(
    reader: Iterator[list[str]], shown: str, column: str | None, delimiter: str
) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error:
        header = []
    if column is not None and column not in header:
        example = delimiter.join(("id", column)) if delimiter == "," else f"id, a tab, {column}"
        raise ScopeError(f"{shown} has no column {column}", f"a first line such as {example}")
    return header


_FORMATS: dict[str, Callable[[BinaryIO, str, str | None], Iterator[PromptLine]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": partial(_csv, delimiter="\t"),
    "txt": _txt,
}
