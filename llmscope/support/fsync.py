"""Writing files completely or not at all, flushed to the disk if the file system supports it.

Nothing is written through a link, and nothing into a pipe or a device; `FolderLock` keeps two
processes apart. `Journal` holds what a long job has finished since its last file.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llmscope.errors import ScopeError, option
from llmscope.support.arguments import differences
from llmscope.support.text import display_line, error_line, one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNSYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EBADF)
"""Error numbers of file systems that cannot flush a file or a folder on request."""


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file, completely or not at all, by one that only this user may read.

    The folder is created if it is missing. A symbolic link is replaced, not its target.

    Raises:
        OSError: the file cannot be written. An earlier one is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = write_beside(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise
    sync_folders([path.parent])


def write_file(path: Path, data: bytes, hint: str = "") -> None:
    """Replace a file as `replace_file` does, by one that others may read as any new file.

    Args:
        path: the file.
        data: its content.
        hint: what to try where it cannot be written; empty: another one.

    Raises:
        ScopeError: it cannot be written.
    """
    with writing(path, hint):
        replace_file(path, data)
        path.chmod(new_file_mode())


def append_line(path: Path, data: bytes) -> None:
    """Append a line to a file with one write; a line that was cut off before it is ended first.

    Raises:
        OSError: the file cannot be written, or is a link, a pipe or anything but a plain file.
    """
    with os.fdopen(_open_to_append(path, 0o666), "r+b", buffering=0) as file:
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


def remove_left(paths: Iterable[Path]) -> None:
    """Remove files that a process left; whatever is no plain file stays."""
    for path in paths:
        with suppress(OSError):
            remove_plain(path)


@contextmanager
def writing(path: Path, hint: str = "") -> Iterator[None]:
    """Raise an error of the file system within as one that names a file or folder.

    Args:
        path: the file or folder that is written.
        hint: what to try; empty: another one.

    Raises:
        ScopeError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = one_line(error.strerror) if error.strerror else error_line(error)
        raise ScopeError(
            f"cannot write {one_line(str(path))}: {reason}", hint or f"another {option('out')}"
        ) from error


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
        raise _refusal(path, "a link")
    path.mkdir(parents=True, exist_ok=True)


def _check(status: os.stat_result, path: Path, *, links: bool = False) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _refusal(path, "a link")
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(path, "no regular file")
    if status.st_nlink > 1 and not links:
        raise _refusal(path, "a second name of another file")


def _refusal(path: Path, what: str) -> OSError:
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


Arrays = dict[str, "NDArray[Any]"]
_RECORD = struct.Struct("<QI")
"""Before each record of a journal: its length in bytes, and its checksum."""
_LONGEST_BEGIN = 1 << 20
_KINDS = frozenset("biufU")
"""Kinds of numpy's dtypes that a journal holds: numbers and texts."""


class Journal:
    """A file to which a job appends what it has finished, so that a killed job goes on behind it.

    A record is handed to the system by one write, which costs microseconds and outlives the
    process, however that ends. It is not flushed to the disk: after a power failure the last
    records may be missing or cut off, and reading ends at the first one that is not whole.

    Args:
        path: the file, which the first record makes.
        about: everything that the records depend on, as JSON types by name.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        import json  # this module is imported before the first picture

        self._about = json.loads(json.dumps(dict(about)))
        self._begin = json.dumps({"llmscope_journal": 1, "about": self._about}).encode() + b"\n"
        self._handle: int | None = None
        self._end: int | None = None  # of the last whole record; None until the file is read

    @property
    def size(self) -> int:
        """Bytes of the records that were read or appended."""
        return self._end or 0

    def records(self) -> Iterator[tuple[Any, Arrays]]:
        """Yield the whole records in order: what was noted, and the arrays by name.

        Raises:
            ScopeError: the file is of another job, or is a link, a pipe or no plain file.
        """
        self._end, end = None, 0
        with writing(self._path):
            if check_plain(self._path):
                with self._path.open("rb") as file:
                    end = self._checked_begin(file.readline(_LONGEST_BEGIN))
                    size = os.fstat(file.fileno()).st_size
                    while end and (data := _next_record(file, size - end)) is not None:
                        end += _RECORD.size + len(data)
                        yield _unpack(data)
        self._end = end

    def _checked_begin(self, line: bytes) -> int:
        """Return the length of the first line; 0 if it is cut off.

        Raises:
            ScopeError: it is of another job.
        """
        if line == self._begin:
            return len(line)
        if self._begin.startswith(line):
            return 0
        import json

        path_text = display_line(self._path)
        try:
            other = dict(json.loads(line)["about"])
        except (ValueError, LookupError, TypeError, RecursionError):
            hint = f"another {option('out')}"
            raise ScopeError(f"{path_text} is no journal of llmscope", hint) from None
        raise ScopeError(
            f"{path_text} was begun with other options{differences(other, self._about)}",
            f"the same options, another {option('out')}, or {option('force')} to begin anew",
        )

    def append(self, note: Any, arrays: Mapping[str, NDArray[Any]] | None = None) -> None:
        """Append a record; what is behind the last whole one is cut off before the first.

        Args:
            note: what is noted, as JSON types; NaN and infinity are kept.
            arrays: arrays of numbers or texts, by name; None: none.

        Raises:
            ScopeError: the file cannot be written.
        """
        parts = _pack(note, arrays or {})
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        length = sum(map(len, parts))
        if self._end is None:
            for _ in self.records():
                pass
        with writing(self._path):
            if self._handle is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = _open_to_append(self._path, 0o666)
                os.ftruncate(self._handle, self._end or 0)
            begin = b"" if self._end else self._begin
            _write_whole(self._handle, begin + _RECORD.pack(length, checksum) + parts[0])
            for part in parts[1:]:
                _write_whole(self._handle, part)
            self._end = (self._end or 0) + len(begin) + _RECORD.size + length

    def clear(self) -> None:
        """Drop all records: they are in a file of their own by now.

        Raises:
            ScopeError: the file cannot be written.
        """
        self._end = 0
        with writing(self._path):
            if self._handle is not None:
                os.ftruncate(self._handle, 0)
            else:
                remove_plain(self._path)

    def remove(self) -> None:
        """Close and remove the file; one that is no plain file is left."""
        handle, self._handle, self._end = self._handle, None, None
        if handle is not None:
            os.close(handle)
        remove_left([self._path])


def _next_record(file: BinaryIO, rest: int) -> bytes | None:
    """Return the bytes of the next record; None if it is cut off or damaged.

    Args:
        file: the journal, at the end of the record before.
        rest: bytes from there to its end.
    """
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None
    length, checksum = _RECORD.unpack(head)
    if length > rest - _RECORD.size:
        return None
    data = file.read(length)
    return data if len(data) == length and zlib.crc32(data) == checksum else None


def _open_to_append(path: Path, mode: int) -> int:
    check_plain(path)  # opening a pipe would wait for its reader
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    handle = os.open(path, flags, mode)
    try:
        _check(os.fstat(handle), path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _write_whole(handle: int, data: bytes | memoryview) -> None:
    """Write all of some bytes: one write takes 2 GB at most, and a signal may end it early."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view[: 1 << 30]) :]


def _pack(note: Any, arrays: Mapping[str, NDArray[Any]]) -> list[bytes | memoryview]:
    """Return the parts of a record: its header, and the bytes of each array, which are not copied.

    The header is JSON behind its length.
    """
    import json  # late, as numpy: starting the screen does not need them

    import numpy as np

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    about = {name: [array.dtype.str, np.shape(arrays[name])] for name, array in whole.items()}
    header = json.dumps([note, about], separators=(",", ":")).encode()
    parts: list[bytes | memoryview] = [len(header).to_bytes(8, "little") + header]
    return parts + [array.reshape(-1).view(np.uint8).data for array in whole.values()]


def _unpack(data: bytes) -> tuple[Any, Arrays]:
    """Return what `_pack` was given.

    Raises:
        ScopeError: another program wrote it.
    """
    import json

    import numpy as np

    try:
        end = 8 + int.from_bytes(data[:8], "little")
        note, about = json.loads(data[8:end])
        arrays: Arrays = {}
        for name, (kind, shape) in about.items():
            dtype = np.dtype(str(kind))
            if dtype.kind not in _KINDS or dtype.itemsize == 0:
                raise ValueError(kind)
            count = int(np.prod(shape, dtype=np.int64))
            array: NDArray[Any] = np.frombuffer(data, dtype, count, end).reshape(shape)
            arrays[name] = array.copy()  # the caller may write to it
            end += array.nbytes
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        hint = f"another {option('out')}"
        raise ScopeError("a journal holds what llmscope did not write", hint) from error
    return note, arrays


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
                folder_text = display_line(self._folder)
                raise ScopeError(f"another process writes to {folder_text}", self._hint) from None
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
