"""Foreign files, bounded: regular ones only, their size, the length of a line, and its JSON."""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from llmscope.support.text import quoted_text

LIMITS = {
    "settings": 100_000,
    "config": 8 << 20,
    "index of weights": 32 << 20,
    "run": 1 << 24,
    "index of a run": 1 << 27,
    "manifest": 1 << 24,
    "transcripts": 1 << 25,
    "prompt": 1 << 25,
    "labels": 1 << 26,
    "state": 1 << 26,
    "examples": 1 << 28,
    "snapshot": 1 << 28,
    "shard": 1 << 29,
}
"""Maximum bytes of each kind of file that is read whole."""
MEMORY = 1 << 29
"""Bytes that the parsed JSON of a line or a file may take, estimated before parsing."""
_UNSUSPICIOUS = 1 << 20
"""Bytes of JSON below which its memory is not estimated."""
LONGEST = 1 << 24
"""Maximum bytes of a line: a file without line ends must not fill the memory."""
TOO_LONG = f"it is longer than {LONGEST >> 20} MB"
_SKIPPED = 1 << 16
"""Bytes of the rest of such a line that are read at once."""

MOST_PARTS = 64
"""Maximum dots of a line of settings, outside of quotes."""
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*")
_WIDE = re.compile(rb"[\xf0-\xff]")
_OTHER_MARKS = {  # UTF-32 first: its byte order mark begins with that of UTF-16
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class LineError(ValueError):
    """Raised for a line that cannot be read; the text gives the reason in a few words."""


class TooLargeError(ValueError):
    """Raised for a file over its limit; the text names both sizes."""


def open_file(path: str | Path) -> BufferedReader:
    """Open a regular file for reading; a pipe or a device might never end.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: the path holds NUL.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        check_regular(os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(status: os.stat_result) -> None:
    """Raise an OSError for anything but a regular file."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")


def read_file(path: str | Path, kind: str) -> bytes:
    """Return the content of a regular file.

    Args:
        path: the file, or a link to it.
        kind: which of `LIMITS` bounds it.

    Raises:
        OSError: it cannot be read, or is no regular file.
        TooLargeError: it is over the limit.
    """
    with open_file(path) as file:
        return read_stream(file, kind, os.fstat(file.fileno()).st_size)


def regular_size(stream: BinaryIO) -> int | None:
    """Return the bytes of a stream that is a regular file of this machine; None for another."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_stream(stream: BinaryIO, kind: str, size: int | None = None) -> bytes:
    """Return the rest of a stream.

    Args:
        stream: the stream.
        kind: which of `LIMITS` bounds it.
        size: its size in bytes; None if that is unknown.

    Raises:
        TooLargeError: it is over the limit.
    """
    limit = LIMITS[kind]
    content = b"" if size is not None and size > limit else stream.read(limit + 1)
    if (size is not None and size > limit) or len(content) > limit:
        raise TooLargeError(
            f"it has {megabytes(max(size or 0, len(content)))}, more than {megabytes(limit)}, "
            f"the limit of this kind of file ({kind})"
        )
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a file of settings.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is over its limit, is no TOML, or a key has more than `MOST_PARTS` parts.
        RecursionError: it is nested too deeply.
    """
    raw = read_file(path, "settings")
    import tomllib  # late: without a file it would cost the first frame 2 ms

    text = raw.decode("utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        # The parser takes time and memory in the square of the parts.
        if line.count(".") > MOST_PARTS and _QUOTED.sub("", line).count(".") > MOST_PARTS:
            raise ValueError(f"line {number} has more than {MOST_PARTS} dotted parts")
    return tomllib.loads(text)


def megabytes(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size:,} bytes"


def raw_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines without their line ends; None in place of a line that is too long."""
    first = True
    while piece := stream.readline(LONGEST):
        if len(piece) < LONGEST or piece.endswith(b"\n"):
            content = piece.removeprefix(codecs.BOM_UTF8) if first else piece
            yield content.removesuffix(b"\n").removesuffix(b"\r")
        else:
            while piece and not piece.endswith(b"\n"):
                piece = stream.readline(_SKIPPED)
            yield None
        first = False


def other_unicode(begin: bytes) -> str:
    """Return a file's encoding by its byte order mark; empty for UTF-8 or without a mark."""
    for name, marks in _OTHER_MARKS.items():
        if begin.startswith(marks):
            return name
    return ""


def json_of(raw: bytes, *, strict: bool = False) -> Any:
    """Return the value of a JSON text in UTF-8.

    Args:
        raw: the text.
        strict: refuse what JSON itself has not, or leaves open: NaN, infinity, and a key that
            occurs twice in one object.

    Raises:
        LineError: it cannot be read, or would take more memory than `MEMORY`.
    """
    import json  # not before the first picture of the screen

    if len(raw) > _UNSUSPICIOUS and (needed := json_memory(raw)) > MEMORY:
        raise LineError(f"its JSON would take {needed >> 20} MB of memory, of {MEMORY >> 20}")
    hooks: dict[str, Any] = (
        {"object_pairs_hook": _unique, "parse_constant": _no_number} if strict else {}
    )
    try:
        return json.loads(raw.decode("utf-8"), **hooks)
    except UnicodeDecodeError as error:
        raise LineError(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise LineError(f"it is not JSON: {error.msg} ({line}column {error.colno})") from None
    except LineError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits, or deep nesting
        raise LineError("it is not JSON that can be read") from None


def json_memory(text: bytes | str) -> int:
    """Estimate the bytes that a decoded and parsed JSON text takes, never much too low."""
    signs = b',[{"' if isinstance(text, bytes) else ',[{"'
    commas, lists, objects, quotes = (text.count(signs[at : at + 1]) for at in range(4))  # type: ignore[arg-type]
    if isinstance(text, str):
        wide, decoded = 4 if not text.isascii() else 1, 0
        escapes = "\\u" in text
    else:
        wide = 1 if text.isascii() else 4 if _WIDE.search(text) else 2
        decoded, escapes = wide, b"\\u" in text
    content = len(text) * (decoded + (4 if escapes else wide))
    return content + 40 * commas + 100 * lists + 280 * objects + 32 * quotes


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name, value in pairs:
        if name in record:
            raise LineError(f"the key {quoted_text(name[:40])} occurs twice in one object")
        record[name] = value
    return record


def _no_number(name: str) -> NoReturn:
    raise LineError(f"it holds {name}, which is no number of JSON")
