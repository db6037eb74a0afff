"""Writing files completely or not at all, flushed to the disk if the file system supports it.

Nothing is written through a link, and nothing into a pipe or a device; `FolderLock` keeps two
processes apart.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmscope.errors import ScopeError
from llmscope.text import display_text

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


def append_line(path: Path, data: bytes) -> None:
    """Append a line to a file with one write; a line that was cut off before it is ended first.

    Raises:
        OSError: the file cannot be written, or is a link, a pipe or anything but a plain file.
    """
    check_plain(path)  # opening a pipe would wait for its reader
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0) as file:
        _check(os.fstat(file.fileno()), path)
        cut = b""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            cut = b"" if file.read(1) == b"\n" else b"\n"
        line = cut + data + b"\n"
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def remove_plain(path: Path) -> None:
    """Remove a file; do nothing if it does not exist.

    Raises:
        OSError: it cannot be removed, or is a link, a pipe or anything but a plain file.
    """
    if check_plain(path, links=True):
        path.unlink()


def check_plain(path: Path, *, links: bool = False) -> bool:
    """Return whether a file exists, after checking that it is one of its own.

    Args:
        path: the file.
        links: whether the file may have other names, which share its content.

    Raises:
        OSError: it is a link, a pipe, a folder or a device, or shares its content.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    _check(status, path, links=links)
    return True


def make_folder(path: Path) -> None:
    """Make a folder with those above it, unless it exists.

    Raises:
        OSError: it cannot be made, or is a link or no folder.
    """
    if path.is_symlink():
        raise _refused(path, "a link")
    path.mkdir(parents=True, exist_ok=True)


def _check(status: os.stat_result, path: Path, *, links: bool = False) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _refused(path, "a link")
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "no regular file")
    if status.st_nlink > 1 and not links:
        raise _refused(path, "a second name of another file")


def _refused(path: Path, what: str) -> OSError:
    return OSError(errno.EPERM, f"{path.name} is {what}, and is not written to", str(path))


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


class FolderLock:
    """Keeps other processes from writing to a folder of this machine.

    The lock ends with the process, even if that is killed. On a file system without locks nothing
    is locked.

    Args:
        folder: the folder.
        name: the file in it that is locked.
        hint: what to do where another process holds the lock.
        shared: whether one process may hold it several times.
    """

    def __init__(self, folder: Path, name: str, hint: str, *, shared: bool = False) -> None:
        self._folder, self._path, self._hint = folder, folder.absolute() / name, hint
        self._shared = shared
        self._lock: Any = None
        self._owner = 0

    def acquire(self) -> None:
        """Take the lock, and make the folder if it is missing; do nothing if it is held already.

        Raises:
            ScopeError: another process holds it.
        """
        if self._lock is not None:
            return
        from filelock import FileLock, Timeout

        with suppress(OSError, ValueError, NotImplementedError):  # told by whoever writes there
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.is_symlink():  # the lock would be taken on its target
                self._path.unlink()
            check_plain(self._path)
            lock = FileLock(
                self._path, blocking=False, thread_local=False, is_singleton=self._shared
            )
            try:
                lock.acquire()
            except Timeout:
                shown = display_text(str(self._folder)).replace("\n", " ")
                raise ScopeError(f"another process writes to {shown}", self._hint) from None
            self._lock, self._owner = lock, os.getpid()

    def release(self) -> None:
        """Give the lock back, and remove its file; do nothing if it is not held."""
        lock, self._lock = self._lock, None
        if lock is None or self._owner != os.getpid():  # a fork shares its parent's lock
            return
        if lock.lock_counter == 1:
            self._path.unlink(missing_ok=True)
        lock.release()

    def __del__(self) -> None:
        with suppress(Exception):
            self.release()
