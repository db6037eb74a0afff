"""The prompts that a person worked with, of all models: one file of a line each, newest last.

The first line says the schema. Sessions that run beside each other add lines to the same file; one
that finds it too long writes it anew with the newest of them.
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
"""So many prompts are kept."""
BYTES = 1_000_000
"""So long is the file at most. A prompt that takes more than a quarter of that is not kept here."""
_LEFT = 0.75
"""The part of that which stays when the file is written anew: not each line has to do so."""


@dataclass(frozen=True)
class PromptRecord:
    """A prompt: with which model, and when, in seconds since 1970."""

    model: str
    text: str
    time: float


def read() -> list[PromptRecord]:
    """All prompts, the newest first, each once a model. Lines that hold none are passed over."""
    return list(_newest(_lines()))


def add(entries: Sequence[PromptRecord]) -> None:
    """Keep prompts. A folder that cannot be written costs them, no more."""
    lines = [line for line in map(_line, entries) if len(line) <= BYTES // 4]
    if not lines:
        return
    path = state_folder() / HISTORY
    with locked():
        if path.is_symlink():  # which is replaced by a file of ours, and not written through
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
                # A line that was cut short, by a full disk or a sudden end, must not take this one.
                begin = b"" if file.read(1) == b"\n" else b"\n"
            else:
                begin = _header()
            file.write(begin + b"".join(lines))
            file.flush()
            sync_file(file.fileno())


def _shorter(found: Sequence[bytes]) -> bytes:
    """The file with the newest prompts only, as many as leave room for more."""
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
            # The newest are at the end of one that is far longer than it may be.
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16 * BYTES))
            return file.read().splitlines()
    except OSError:
        return []


def _header() -> bytes:
    return json.dumps({"schema": SCHEMA}).encode() + b"\n"


def _line(entry: PromptRecord) -> bytes:
    record = {"time": round(entry.time), "model": entry.model, "text": entry.text}
    # What a person pasted may be half a character.
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
