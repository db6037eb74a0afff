"""Flushing written files to the disk, as far as the file system supports it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF)
"""Error numbers of file systems that cannot flush a file or a folder on request."""


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
