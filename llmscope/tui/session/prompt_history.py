"""The history of prompts for all models: a file with one prompt per line, newest last.

The first line holds the schema. Concurrent sessions append to the same file; a session that finds
it too long rewrites it with the newest prompts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.fsync import sync_file
from llmscope.tui.session.state_files import HISTORY, SCHEMA, locked, state_folder, write

MOST = 1000
"""The most prompts to keep."""
BYTES = 1_000_000
"""The most bytes of the file. A prompt that takes more than a quarter of them is not kept."""
_LEFT = 0.75
"""The share of both limits that a rewritten file fills, so that not each line rewrites it."""


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
        if path.is_symlink():  # replace the link by our own file; do not write through it
            write(HISTORY, _shorter(_lines()))
        _append(path, lines)
        found = _lines()
        if len(found) > MOST + 1 or sum(len(line) + 1 for line in found) > BYTES:
            write(HISTORY, _shorter(found))


def _append(path: Path, lines: Sequence[bytes]) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(path, flags, 0o600)
        with os.fdopen(handle, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                # Do not append to a line that was cut short by a full disk or a crash.
                begin = b"" if file.read(1) == b"\n" else b"\n"
            else:
                begin = _header()
            file.write(begin + b"".join(lines))
            file.flush()
            sync_file(file.fileno())


def _shorter(found: Sequence[bytes]) -> bytes:
    """Return a file with only the newest prompts, few enough to leave room for more."""
    kept: list[bytes] = []
    room = int(_LEFT * BYTES)
    for entry in _newest(found):
        line = _line(entry)
        room -= len(line)
        if room < 0 or len(kept) >= _LEFT * MOST:
            break
        kept.append(line)
    return _header() + b"".join(reversed(kept))


def _newest(found: Iterable[bytes]) -> Iterable[PromptRecord]:
    known = set()
    for line in reversed(list(found)):
        entry = _entry(line)
        if entry is not None and (entry.model, entry.text) not in known:
            known.add((entry.model, entry.text))
            yield entry


def _lines() -> list[bytes]:
    try:
        with (state_folder() / HISTORY).open("rb") as file:
            # Read only the end, where the newest are, of a file that is far too long.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16 * BYTES))
            return file.read().splitlines()
    except OSError:
        return []


def _header() -> bytes:
    return json.dumps({"schema": SCHEMA}).encode() + b"\n"


def _line(entry: PromptRecord) -> bytes:
    record = {"time": round(entry.time), "model": entry.model, "text": entry.text}
    # Pasted text may contain a lone surrogate.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _entry(line: bytes) -> PromptRecord | None:
    try:
        record: Any = json.loads(line.decode("utf-8", "surrogatepass"))
        model, text, time = record["model"], record["text"], record["time"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    right = isinstance(model, str) and isinstance(text, str) and text.strip()
    if not right or isinstance(time, bool) or not isinstance(time, int | float):
        return None
    return PromptRecord(model, text, float(time))
