"""Folders to write to: on this machine, or on any file system that fsspec knows."""

from __future__ import annotations

import hashlib
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import ScopeError, option
from llmscope.support.fsync import check_plain, remove_plain, writing
from llmscope.support.lines import TooLargeError, open_file, read_file, read_stream
from llmscope.support.text import display_line, error_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+(://|::)")
"""A scheme has two letters or more: `C:` is a drive."""
URL_AS_PATH = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(/+|:)")
"""A URL also as a `Path` holds it: with one slash of two."""


def is_url(path: str) -> bool:
    """Return whether a path is a URL such as `s3://bucket/folder`."""
    return _URL.match(path) is not None


class Storage(ABC):
    """A folder that files are written to, each completely or not at all.

    Names of files are relative, with `/` between folders; folders are made as they are needed.

    Attributes:
        shown: the folder's name, safe to print.
        url: the folder's path or URL.
        system: its file system of fsspec; None for a folder on this machine.
    """

    shown: str
    url: str
    system: AbstractFileSystem | None = None

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files and folders in a folder; empty if there is no folder.

        Raises:
            ScopeError: the folder cannot be listed.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is no such file. Links are not followed."""

    @abstractmethod
    def read(self, name: str, kind: str) -> bytes:
        """Return the bytes of a file.

        Args:
            name: the file.
            kind: which of `llmscope.support.lines.LIMITS` bounds it.

        Raises:
            OSError: the file cannot be read.
        """

    @abstractmethod
    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files in order, replacing those of the same names.

        Raises:
            ScopeError: a file cannot be written.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file; do nothing if there is no such file."""

    @abstractmethod
    def remove_folder(self, name: str) -> None:
        """Remove a folder with its files; do nothing if there is no such folder."""

    @abstractmethod
    def unchanged(self, name: str, size: int, sha256: str) -> bool:
        """Return whether a file is the one that was written.

        Its bytes are read and compared where that is cheap; on a remote file system only the
        sizes are compared, since it checks its own transfers.
        """


class LocalStorage(Storage):
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # another process may have another working folder
        self.url = str(self.path)
        self.shown = display_line(path)

    def names(self, folder: str = "") -> list[str]:  # noqa: D102
        where = self.path / folder
        if not where.is_dir() or (folder and self._through_link(f"{folder}/")):
            return []
        try:
            return sorted(path.name for path in where.iterdir())
        except OSError as error:
            raise ScopeError(
                f"cannot read {self.shown}: {error_line(error)}", f"another {option('out')}"
            ) from error

    def size(self, name: str) -> int | None:  # noqa: D102
        path = self.path / name
        if self._through_link(name) or path.is_symlink() or not path.is_file():
            return None
        return path.stat().st_size

    def _through_link(self, name: str) -> bool:
        """Return whether a folder on the way to a file is a link, whose files are foreign."""
        folders = name.split("/")[:-1]
        return any(
            self.path.joinpath(*folders[: depth + 1]).is_symlink() for depth in range(len(folders))
        )

    def read(self, name: str, kind: str) -> bytes:  # noqa: D102
        return read_file(self.path / name, kind)

    def write(self, files: Mapping[str, bytes]) -> None:  # noqa: D102
        from llmscope.support.atomic_write import write_all

        with writing(self.path):
            for name in files:
                folder = (self.path / name).parent
                if folder.is_symlink():  # the files would be written to its target
                    folder.unlink()
                folder.mkdir(parents=True, exist_ok=True)
                path = self.path / name
                if not path.is_symlink():  # which is replaced
                    check_plain(path, links=True)
        write_all({self.path / name: data for name, data in files.items()}, force=True)

    def remove(self, name: str) -> None:  # noqa: D102
        path = self.path / name
        if not self._through_link(name):
            with suppress(OSError):
                if path.is_symlink():
                    path.unlink()
                else:
                    remove_plain(path)

    def remove_folder(self, name: str) -> None:  # noqa: D102
        shutil.rmtree(self.path / name, ignore_errors=True)

    def unchanged(self, name: str, size: int, sha256: str) -> bool:  # noqa: D102
        if self.size(name) != size:
            return False
        with open_file(self.path / name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256


class RemoteStorage(Storage):
    """A folder on a file system of fsspec."""

    system: AbstractFileSystem

    def __init__(self, system: AbstractFileSystem, path: str, url: str) -> None:
        self.system, self._path, self.url = system, path.rstrip("/"), url.rstrip("/")
        self.shown = display_line(url)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def names(self, folder: str = "") -> list[str]:  # noqa: D102
        where = self._at(folder)
        try:
            self.system.invalidate_cache()  # another process may have written
            entries = self.system.ls(where, detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:  # each file system raises its own
            raise self._error_of("read", error) from error
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def size(self, name: str) -> int | None:  # noqa: D102
        try:
            about = self.system.info(self._at(name))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._error_of("read", error) from error
        return int(about["size"]) if about["type"] == "file" else None

    def read(self, name: str, kind: str) -> bytes:  # noqa: D102
        try:
            size = self.size(name)
            if size is None:
                raise FileNotFoundError(name)
            with self.system.open(self._at(name), "rb") as file:
                return read_stream(file, kind, size)
        except (OSError, TooLargeError):
            raise
        except Exception as error:
            raise OSError(error_line(error)) from error

    def write(self, files: Mapping[str, bytes]) -> None:  # noqa: D102
        try:
            for name, data in files.items():
                self.system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
                self.system.pipe_file(self._at(name), data)
        except Exception as error:
            raise self._error_of("write", error) from error

    def remove(self, name: str) -> None:  # noqa: D102
        with suppress(Exception):
            self.system.rm_file(self._at(name))

    def remove_folder(self, name: str) -> None:  # noqa: D102
        with suppress(Exception):
            self.system.rm(self._at(name), recursive=True)

    def unchanged(self, name: str, size: int, sha256: str) -> bool:  # noqa: D102
        return self.size(name) == size

    def _error_of(self, what: str, error: Exception) -> ScopeError:
        return ScopeError(
            f"cannot {what} {self.shown}: {error_line(error)}", f"another {option('out')}"
        )


def storage(path: str) -> Storage:
    """Return the folder of a path or URL; nothing is written yet.

    Args:
        path: a path of this machine, or a URL of a file system that fsspec knows, such as
            `s3://bucket/folder`, `gs://…`, `hf://datasets/ORG/NAME/…` or `file:///…`.

    Raises:
        ScopeError: the URL's file system is unknown, or its package is not installed.
    """
    if not is_url(path):
        return LocalStorage(Path(path))
    system, inside = file_system(path)
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        return LocalStorage(Path(inside))
    return RemoteStorage(system, inside, path)


@dataclass(frozen=True)
class RemoteFile:
    """A file on a file system of fsspec.

    Attributes:
        folder: its folder.
        name: its name there.
        shown: its URL, safe to print.
    """

    folder: RemoteStorage
    name: str
    shown: str


def file_at(path: str) -> Path | RemoteFile:
    """Return the file of a path or URL, as of `storage`; nothing is written yet.

    Raises:
        ScopeError: the URL names no file, its file system is unknown, or its package is not
            installed.
    """
    if not is_url(path):
        return Path(path)
    system, inside = file_system(path)
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        return Path(inside)
    path_text, (folder, _, name) = display_line(path), inside.rpartition("/")
    if not name or path.endswith("/"):
        raise ScopeError(f"{path_text} is a folder", f"{option('out')} with a file name")
    return RemoteFile(RemoteStorage(system, folder, path.rpartition("/")[0]), name, path_text)


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        ScopeError: the file system is unknown, or its package is not installed.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    url_text, protocol = display_line(url), re.split("://|::", url)[0]
    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        package = str(known_implementations.get(protocol, {}).get("class", "")).split(".")[0]
        if package in ("", "fsspec"):  # its error names what is missing
            raise ScopeError(
                f"{url_text}: {error_line(error)}", f"another {option('out')}"
            ) from error
        raise ScopeError(f"{url_text} needs {package}", f"pip install {package}") from error
    except ValueError as error:
        known = "s3://, gs://, hf:// or another file system of fsspec"
        raise ScopeError(f"{url_text}: {error_line(error)}", known) from error
    except Exception as error:  # such as missing credentials
        raise ScopeError(
            f"cannot open {url_text}: {error_line(error)}", f"another {option('out')}"
        ) from error
    return system, path
