"""Putting what was written on the disk, as far as the file system takes part."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF)
"""What a file system answers that cannot put a file or a folder on its disk when it is asked to."""


def sync_file(handle: int) -> None:
    """Put an open file on its disk, as far as that can be asked for.

    Raises:
        OSError: the disk failed.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSYNCED:
            raise


def sync_folders(folders: Iterable[Path]) -> None:
    """Put the names in folders on the disk, so that a file that was replaced stays so.

    Raises:
        OSError: the disk failed.
    """
    if os.name == "nt":  # which opens no folders
        return
    for folder in dict.fromkeys(folders):
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # one that may be written to but not read
            continue
        try:
            sync_file(handle)
        finally:
            os.close(handle)
