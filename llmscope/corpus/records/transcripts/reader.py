"""Files of transcripts: JSON lines, JSON, Parquet; here, at a URL, or on stdin."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from llmscope.corpus.records.record_file import Record, RecordFile
from llmscope.corpus.records.transcripts.records import (
    COLUMNS,
    EXAMPLE,
    MOST_TURNS,
    is_message,
    transcript_of,
)
from llmscope.corpus.records.transcripts.transcript import Transcript
from llmscope.errors import ScopeError, option
from llmscope.support.lines import LineError, TooLargeError, json_of, read_stream, regular_size

FORMATS = ("jsonl", "ndjson", "json", "parquet")
SUFFIXES = tuple(f".{suffix}" for suffix in FORMATS)


class TranscriptFile(RecordFile):
    """A file of transcripts.

    Args:
        name: its path or URL; `-` for JSON lines on stdin.

    Raises:
        ScopeError: its suffix is not that of a known format.
    """

    kind = "transcripts"
    formats = FORMATS
    strict = True

    def transcript(
        self, line: int | None = None, *, rejected: bool = False
    ) -> tuple[Transcript, bool]:
        """Return a transcript, and whether the file has others after it.

        A file with one message a line is one transcript.

        Args:
            line: its line, from 1; None takes the first one.
            rejected: take the rejected answer of a pair, and not the chosen one.

        Raises:
            ScopeError: the file or the line cannot be read, or is no transcript.
        """
        records = self.records()
        try:
            for record in records:
                if line is None or record.number == line:
                    return self._transcript_at(record, records, line, rejected)
        finally:
            records.close()
        if line is None:
            raise ScopeError(f"{self.shown} is empty", f"a line such as {EXAMPLE}")
        raise ScopeError(
            f"{self.shown} has no transcript on {self.unit} {line}", f"another {option('line')}"
        )

    def _transcript_at(
        self, record: Record, others: Iterator[Record], line: int | None, rejected: bool
    ) -> tuple[Transcript, bool]:
        value = self._value(record)
        if line is not None or not is_message(value):
            if is_message(value):
                raise ScopeError(
                    f"{self.place(record.number)}: it is one message: the file is one transcript",
                    f"the same without {option('line')}",
                )
            transcript = transcript_of(
                value, self.place(record.number), record.number, rejected=rejected
            )
            return transcript, next(others, None) is not None
        messages = [value]
        for other in others:
            message = self._value(other)
            if not is_message(message):
                raise ScopeError(
                    f"{self.place(other.number)}: it is no message, unlike the lines before",
                    "a file with one message on each line, or one transcript",
                )
            messages.append(message)
            if len(messages) > MOST_TURNS:
                break  # which is refused
        return transcript_of(messages, self.shown, record.number, rejected=rejected), False

    def _value(self, record: Record) -> Any:
        if record.error:
            raise ScopeError(
                f"{self.place(record.number)}: {record.error}", f"a line such as {EXAMPLE}"
            )
        return record.value

    def _columns(self, names: Sequence[str]) -> Sequence[str]:
        return [name for name in names if name in COLUMNS]

    def _text_records(self, stream: BinaryIO) -> Iterator[Record]:
        of_json = self.format == "json"
        return self._entries(stream) if of_json else super()._text_records(stream)

    def _entries(self, stream: BinaryIO) -> Iterator[Record]:
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

    def _parquet_records(self, source: str | BinaryIO) -> Iterator[Record]:
        for record in super()._parquet_records(source):
            yield replace(record, value=without_missing(record.value))


def without_missing(value: Any) -> Any:
    """Return a value of Parquet without the keys that are None: a column holds all keys of all."""
    if isinstance(value, dict):
        return {name: without_missing(child) for name, child in value.items() if child is not None}
    return [without_missing(child) for child in value] if isinstance(value, list) else value
