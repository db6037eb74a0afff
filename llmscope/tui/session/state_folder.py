"""The state folder: its place, its lock, and its files, which are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_state_path

from llmscope.support.fsync import replace_file
from llmscope.support.lines import read_file
from llmscope.support.text import display_line

LOCK = ".lock"
"""Held while a file is read, changed and rewritten."""
PATIENCE = 5.0
"""Seconds to wait for the lock of another process, once; then files are written without it."""

_patience = PATIENCE
_flaws: list[str] = []


def state_folder() -> Path:
    """Return the folder of the state: LLMSCOPE_STATE, or the platform's own place."""
    chosen = os.environ.get("LLMSCOPE_STATE")
    return Path(chosen) if chosen else user_state_path("llmscope")


def flaw() -> str:
    """Return what went wrong with the stored state, in one line, and clear it."""
    flaws = "; ".join(dict.fromkeys(_flaws))
    _flaws.clear()
    return flaws


def content(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is over its limit.
    """
    return read_file(path, "state")


def set_aside(path: Path, *, copy: bool = False) -> bool:
    """Rename or copy a file that cannot be read, so that nothing overwrites it; see `flaw`.

    The new name ends in `.bad`, and in a number if that name is taken.

    Returns:
        Whether the file is under its new name.
    """
    number, aside = 2, path.with_name(f"{path.name}.bad")
    while aside.exists():
        number, aside = number + 1, path.with_name(f"{path.name}.bad{number}")
    try:
        if not copy:
            path.rename(aside)
        elif not write(aside.name, content(path)):
            return False
    except (OSError, ValueError) as error:
        _report(error)
        return False
    _flaws.append(f"what an earlier session left cannot be read: set aside as {aside.name}")
    return True


@contextmanager
def locked() -> Iterator[None]:
    """Keep other processes from changing the state folder, so that what is read stays current.

    The system releases the lock when a process ends, however it ends. A folder that cannot be
    locked within `PATIENCE` is written to all the same: see `flaw`.
    """
    from filelock import FileLock, Timeout

    global _patience
    lock = None
    try:
        state_folder().mkdir(parents=True, exist_ok=True)
        lock = FileLock(state_folder() / LOCK, timeout=_patience)
        lock.acquire(poll_interval=0.01)
    except Timeout:
        _flaws.append("another process holds the lock on saved state: writing without it")
        _patience = 0.0
    except (OSError, NotImplementedError, ValueError) as error:
        _report(error)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                lock.release()


def write(name: str, data: bytes) -> bool:
    """Replace a file of the folder; return whether it is on the disk: see `flaw`."""
    try:
        replace_file(state_folder() / name, data)
    except OSError as error:
        _report(error)
        return False
    return True


def _report(error: Exception) -> None:
    reason = getattr(error, "strerror", None) or str(error)
    line = display_line(f"{state_folder()} cannot keep anything: {reason}")
    _flaws.append(line[:300])
