"""A lock on one job's part of a batch folder.

Two processes writing the same part would remove each other's unfinished files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from llmscope.errors import option
from llmscope.jobs.snapshots.folder import JobShare
from llmscope.support.fsync import FolderLock
from llmscope.support.storage import LocalStorage, Storage


@contextmanager
def exclusive(storage: Storage, part: JobShare) -> Iterator[None]:
    """Keep other processes, on any machine, from writing this part of the folder.

    The lock is released when the process ends, even if it is killed. On a file system without
    locks, such as a remote one, no lock is taken.

    Raises:
        ScopeError: another process is writing this part.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    path, new = storage.path, False
    with suppress(OSError, ValueError):  # `Folder` reports them, once the model is loaded
        new = not path.exists()
    hint = f"wait for its end, or another {option('shard')} or {option('out')}"
    lock = FolderLock(path, f".{part.name('lock')}", hint)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
        if new:
            with suppress(OSError):
                path.rmdir()  # fails unless nothing was written
