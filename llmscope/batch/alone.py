"""One process at a time for a part of a folder: two would remove each other's unfinished files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmscope.batch.folder import Part
from llmscope.errors import ScopeError
from llmscope.text import display_text


@contextmanager
def alone(path: Path, part: Part) -> Iterator[None]:
    """Within, no other process of any machine writes this part of the folder.

    The lock is let go of when the process ends, however it does. A disk that knows no locks is
    trusted.

    Raises:
        ScopeError: another process writes it.
    """
    from filelock import FileLock, Timeout

    name = path / f".{part.name('lock')}"
    lock = FileLock(name, blocking=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        shown = display_text(str(path)).replace("\n", " ")
        raise ScopeError(
            f"another process writes to {shown}", "wait for its end, or another --shard or --out"
        ) from None
    except (OSError, ValueError, NotImplementedError):
        yield  # the folder itself says what is wrong with it, if anything is
        return
    try:
        yield
    finally:
        with suppress(OSError):
            name.unlink(missing_ok=True)
        lock.release()
