"""The lines of a foreign file, each of bounded length, and the JSON of a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from llmscope.text import quoted_text

LONGEST = 1 << 24
"""Maximum bytes of a line: a file without line ends must not fill the memory."""
TOO_LONG = f"it is longer than {LONGEST >> 20} MB"
_SKIPPED = 1 << 16
"""Bytes of the rest of such a line that are read at once."""

_OTHER_MARKS = {  # UTF-32 first: its byte order mark begins with that of UTF-16
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class LineError(ValueError):
    """Raised for a line that cannot be read; the text gives the reason in a few words."""


def raw_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines without their line ends; None in place of a line that is too long."""
    first = True
    while piece := stream.readline(LONGEST):
        if len(piece) < LONGEST or piece.endswith(b"\n"):
            kept = piece.removeprefix(codecs.BOM_UTF8) if first else piece
            yield kept.removesuffix(b"\n").removesuffix(b"\r")
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
        LineError: it cannot be read.
    """
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


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise LineError(f"the key {quoted_text(name[:40])} occurs twice in one object")
        found[name] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise LineError(f"it holds {name}, which is no number of JSON")
