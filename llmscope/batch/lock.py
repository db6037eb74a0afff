"""One process at a time for a part of a folder: two would remove each other's unfinished files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmscope.batch.folder import JobShare
from llmscope.errors import ScopeError
from llmscope.text import display_text


@contextmanager
def alone(path: Path, part: JobShare) -> Iterator[None]:
    """Within, no other process of any machine writes this part of the folder.

    The lock is let go of when the process ends, however it does. A disk that knows no locks is
    trusted.

    Raises:
        ScopeError: another process writes it.
    """
    from filelock import FileLock, Timeout

    name = path / f".{part.name('lock')}"
    lock, new = FileLock(name, blocking=False), not path.exists()
    # What else is wrong with the folder it says itself, once the model is there.
    with suppress(OSError, ValueError, NotImplementedError):
        path.mkdir(parents=True, exist_ok=True)
        if name.is_symlink():  # which the lock would be taken through
            name.unlink()
        try:
            lock.acquire()
        except Timeout:
            shown = display_text(str(path)).replace("\n", " ")
            hint = "wait for its end, or another --shard or --out"
            raise ScopeError(f"another process writes to {shown}", hint) from None
    try:
        yield
    finally:
        if lock.is_locked:
            name.unlink(missing_ok=True)
            lock.release()
        if new:
            with suppress(OSError):
                path.rmdir()  # where nothing came of it
