"""Replacing files completely or not at all, flushed to the disk if the file system supports it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF)
"""Error numbers of file systems that cannot flush a file or a folder on request."""


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file, completely or not at all, by one that only this user may read.

    The folder is created if it is missing. A symbolic link is replaced, not its target.

    Raises:
        OSError: the file cannot be written. An earlier one is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = write_beside(path, data)
    try:
        os.replace(made, path)
    except BaseException:
        made.unlink()
        raise
    sync_folders([path.parent])


def new_file_mode() -> int:
    """Return the permissions that any new file of this user gets."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def write_beside(path: Path, data: bytes) -> Path:
    """Write a temporary file beside `path` that only this user may read, and return its path.

    Raises:
        OSError: it cannot be written completely, and is removed.
    """
    import tempfile  # late: starting the screen does not need it

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            sync_file(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return Path(name)


def sync_file(handle: int) -> None:
    """Flush an open file to the disk, if the file system supports it.

    Raises:
        OSError: the disk failed.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush the entries of folders to the disk, so that a replaced file stays replaced.

    Raises:
        OSError: the disk failed.
    """
    if os.name == "nt":  # folders cannot be opened there
        return
    for folder in dict.fromkeys(folders):
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # the folder may be writable but not readable
            continue
        try:
            sync_file(handle)
        finally:
            os.close(handle)
