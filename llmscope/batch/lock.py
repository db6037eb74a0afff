"""A lock on one job's part of a batch folder.

Two processes writing the same part would remove each other's unfinished files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from llmscope.batch.folder import JobShare
from llmscope.errors import ScopeError
from llmscope.storage import LocalStorage, Storage


@contextmanager
def exclusive(storage: Storage, part: JobShare) -> Iterator[None]:
    """Keep other processes, on any machine, from writing this part of the folder.

    The lock is released when the process ends, even if it is killed. On a file system without
    locks, such as a remote one, no lock is taken.

    Raises:
        ScopeError: another process is writing this part.
    """
    from filelock import FileLock, Timeout

    if not isinstance(storage, LocalStorage):
        yield
        return
    path = storage.path
    name = path / f".{part.name('lock')}"
    lock, new = FileLock(name, blocking=False), not path.exists()
    # Other problems with the folder are reported by `Folder`, once the model is loaded.
    with suppress(OSError, ValueError, NotImplementedError):
        path.mkdir(parents=True, exist_ok=True)
        if name.is_symlink():  # the lock would be taken on its target
            name.unlink()
        try:
            lock.acquire()
        except Timeout:
            hint = "wait for its end, or another --shard or --out"
            raise ScopeError(f"another process writes to {storage.shown}", hint) from None
    try:
        yield
    finally:
        if lock.is_locked:
            name.unlink(missing_ok=True)
            lock.release()
        if new:
            with suppress(OSError):
                path.rmdir()  # fails unless nothing was written
