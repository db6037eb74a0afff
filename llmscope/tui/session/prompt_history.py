"""The history of prompts for all models: a file with one prompt per line, newest last.

The first line holds the schema. Concurrent sessions append to the same file; a session that finds
it too long rewrites it with the newest prompts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmscope.support.fsync import sync_file
from llmscope.support.lines import open_file
from llmscope.tui.session.codec import decode, encode
from llmscope.tui.session.state_folder import locked, set_aside, state_folder, write

HISTORY = "history.jsonl"
SCHEMA = {"schema": 1}
MOST = 1000
"""The most prompts to keep."""
BYTES = 1_000_000
"""The most bytes of the file. A prompt that takes more than a quarter of them is not kept."""
_LEFT = 0.75
"""The share of both limits that a rewritten file fills, so that not each line rewrites it."""
_HEADER = encode(SCHEMA) + b"\n"


@dataclass(frozen=True)
class PromptRecord:
    """A prompt, its model, and its time in seconds since 1970."""

    model: str
    text: str
    time: float


def read() -> list[PromptRecord]:
    """Return all prompts, newest first, each once per model. Invalid lines are skipped."""
    return list(_newest(_lines()))


def add(entries: Sequence[PromptRecord]) -> None:
    """Add prompts to the history. If the folder cannot be written, only they are lost."""
    lines = [line for line in map(_line, entries) if len(line) <= BYTES // 4]
    if not lines:
        return
    path = state_folder() / HISTORY
    with locked():
        all_lines = [*_lines(), *lines]
        size = len(_HEADER) + sum(len(line) + 1 for line in all_lines)
        # A link is replaced by our own file: nothing is written through it.
        if len(all_lines) > MOST or size > BYTES or path.is_symlink():
            write(HISTORY, _shorter(all_lines))
        else:
            _append(path, lines)


def _append(path: Path, lines: Sequence[bytes]) -> None:
    with suppress(OSError):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(path, flags, 0o600)
        with os.fdopen(handle, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                # Do not append to a line that was cut short by a full disk or a crash.
                begin = b"" if file.read(1) == b"\n" else b"\n"
            else:
                begin = _HEADER
            file.write(begin + b"".join(lines))
            file.flush()
            sync_file(file.fileno())


def _shorter(lines: Sequence[bytes]) -> bytes:
    """Return a file with only the newest prompts, few enough to leave room for more."""
    newest: list[bytes] = []
    room = int(_LEFT * BYTES)
    for line in map(_line, _newest(lines)):
        room -= len(line)
        if room < 0 or len(newest) >= _LEFT * MOST:
            break
        newest.append(line)
    return _HEADER + b"".join(reversed(newest))


def _newest(lines: Iterable[bytes]) -> Iterable[PromptRecord]:
    known = set()
    for line in reversed(list(lines)):
        with suppress(ValueError):
            entry = decode(line, PromptRecord)
            if entry.text.strip() and (entry.model, entry.text) not in known:
                known.add((entry.model, entry.text))
                yield entry


def _lines() -> list[bytes]:
    """Return the lines after the schema; a file of another schema is set aside."""
    path = state_folder() / HISTORY
    try:
        with open_file(path) as file:
            header = file.readline(100)
            # Read only the end, where the newest are, of a file that is far too long.
            file.seek(max(len(header), file.seek(0, os.SEEK_END) - 16 * BYTES))
            lines = file.read().splitlines()
        if decode(header, dict[str, int]) != SCHEMA:
            raise ValueError("another schema")
    except OSError:
        return []
    except ValueError:
        set_aside(path)
        return []
    return lines


def _line(entry: PromptRecord) -> bytes:
    return encode(entry) + b"\n"
