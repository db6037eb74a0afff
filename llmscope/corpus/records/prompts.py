"""Prompts as a stream, from JSON lines, CSV, TSV, Parquet or plain text, with the line of each.

A line that cannot be read as a prompt is reported, and reading continues. At most one line is held
in memory at a time.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from llmscope.corpus.records.record_file import STDIN, Record, RecordFile, unique_names
from llmscope.errors import ScopeError
from llmscope.figure.tables.parquet import open_parquet
from llmscope.figure.tables.rows import plain_text
from llmscope.support.lines import LONGEST, TOO_LONG, raw_lines
from llmscope.support.text import error_line

if TYPE_CHECKING:
    import pyarrow

Item = TypeVar("Item")
__all__ = [
    "STDIN",
    "PromptLine",
    "PromptSource",
    "PromptText",
    "digest_of",
    "prompt_line",
    "windows",
]

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


class PromptText(NamedTuple):
    """A text of a file, with the line where it begins, from 1."""

    number: int
    text: str


class PromptSource(RecordFile):
    """A file of prompts, or stdin with JSON lines.

    Args:
        name: the path, or `STDIN`.
        column: the column with the prompts; None for records of another kind, whose columns are
            all in `inputs`. A line of plain text is the column `text` of its record.

    Raises:
        ScopeError: the file cannot be read, or its suffix is not that of a known format.
    """

    kind = "prompts"
    formats = ("jsonl", "csv", "tsv", "parquet", "txt")

    def __init__(self, name: str, column: str | None = "prompt") -> None:
        super().__init__(name)
        self._column = column
        with self._open_bytes():
            pass

    def arrow_types(self) -> tuple[dict[str, Any], int] | None:
        """Return the types of a Parquet file's columns except the prompt, and its rows.

        None for another format, whose lines say what they hold.

        Raises:
            ScopeError: the file cannot be read, or has no column `prompt`.
        """
        if self.format != "parquet":
            return None
        with self._open_bytes(), open_parquet(self._name, self.shown) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            names = self._columns(unique_names(schema.names, self.shown))
        return {name: _plain(schema.field(name).type) for name in names if name != "prompt"}, rows

    def __iter__(self) -> Iterator[PromptLine]:
        """Yield each line with its prompt or its error; empty lines are left out.

        Raises:
            ScopeError: the rest of the file cannot be read.
        """
        return map(self._line, self.records())

    def checked(self, hint: str = "another file") -> Iterator[PromptLine]:
        """Yield each line.

        Args:
            hint: what to try where a line cannot be read.

        Raises:
            ScopeError: a line, or the rest of the file, cannot be read.
        """
        for line in self:
            if line.error:
                raise ScopeError(f"{self.place(line.number)}: {line.error}", hint)
            yield line

    def texts(self) -> Iterator[PromptText]:
        """Yield the prompts with their lines.

        Raises:
            ScopeError: a line, or the rest of the file, cannot be read.
        """
        return (PromptText(line.number, line.prompt or "") for line in self.checked())

    def _line(self, record: Record) -> PromptLine:
        if record.error:
            return PromptLine(record.number, None, record.error)
        if not isinstance(record.value, dict):
            example = ' such as {"prompt": "…"}' if self._column else ""
            return PromptLine(record.number, None, f"it is no object{example}")
        inputs = {plain_text(name): value for name, value in record.value.items()}
        if self._column is None:
            return PromptLine(record.number, "", inputs=inputs)
        return prompt_line(record.number, inputs.pop(self._column, None), inputs)

    def _columns(self, names: Sequence[str]) -> Sequence[str]:
        if self._column is not None and self._column not in names:
            raise ScopeError(f"{self.shown} has no column {self._column}", "a file with one")
        return names

    def _text_records(self, stream: BinaryIO) -> Iterator[Record]:
        if self.format == "txt":
            return _text_lines(stream, self._column or "text")
        if self.format == "jsonl":
            return super()._text_records(stream)
        return self._table_rows(stream, "," if self.format == "csv" else "\t")

    def _table_rows(self, stream: BinaryIO, delimiter: str) -> Iterator[Record]:
        """Yield the rows of CSV or TSV; of columns of one name the first prompt, else the last."""
        csv.field_size_limit(LONGEST)
        # Bytes that are not UTF-8 become lone surrogates, so that only their own row fails.
        texts = (
            "\0" * (LONGEST + 1) if raw is None else raw.decode("utf-8", "surrogateescape") + "\n"
            for raw in raw_lines(stream)
        )
        reader = csv.reader(texts, delimiter=delimiter)
        header = self._header(reader, delimiter)
        places: dict[str, int] = {}
        for at, name in enumerate(header):
            if name != self._column or name not in places:
                places |= {plain_text(name): at} if name else {}
        while True:
            number = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(number, error=f"it is not CSV: {error_line(error)}")
                continue
            if row:
                values = {name: row[at] if at < len(row) else None for name, at in places.items()}
                yield Record(number, values)

    def _header(self, reader: Iterator[list[str]], delimiter: str) -> list[str]:
        try:
            header = next(reader, [])
        except csv.Error:
            header = []
        column = self._column
        if column is not None and column not in header:
            example = delimiter.join(("id", column)) if delimiter == "," else f"id, a tab, {column}"
            raise ScopeError(
                f"{self.shown} has no column {column}", f"a first line such as {example}"
            )
        return header


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


def digest_of(lines: Iterable[tuple[int, str]]) -> str:
    """Return a digest of texts and their lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(digested(line))
    return digest.hexdigest()


def digested(line: tuple[int, str]) -> bytes:
    """Return what a digest takes in of a text and its line."""
    number, text = line
    data = text.encode("utf-8", "surrogatepass")
    return f"{number} {len(data)} ".encode() + data


def windows(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield as many items at a time as `size` says, in order; the last may be fewer."""
    rest = iter(items)
    while window := list(islice(rest, size)):
        yield window


def _text_lines(stream: BinaryIO, column: str) -> Iterator[Record]:
    for number, raw in enumerate(raw_lines(stream), 1):
        if raw is None:
            yield Record(number, error=TOO_LONG)
        elif raw.strip():
            try:
                yield Record(number, {column: raw.decode("utf-8")})
            except UnicodeDecodeError as error:
                yield Record(number, error=f"it is not UTF-8 (byte {error.start})")


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Return the type of the values of a dictionary column; others stay as they are."""
    import pyarrow

    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind
