"""Write files atomically: completely or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from llmscope.errors import ScopeError, option
from llmscope.support.fsync import new_file_mode, sync_folders, write_beside
from llmscope.support.text import display_line

_DEVICES = ("/dev", "/proc")
"""Folders whose links represent open files, such as /dev/stdout."""


def write(path: Path, data: str | bytes, *, force: bool = False) -> Path:
    """Write a file atomically: write a temporary file beside it, then rename that to `path`.

    A pipe or a device is written to directly. A symbolic link is replaced, and its target is left
    unchanged. On return the file has been synced to disk.

    Raises:
        ScopeError: the file exists and `force` is not set, or the file cannot be written.
    """
    write_all({path: data}, force=force)
    return path


def write_all(contents: Mapping[Path, str | bytes], *, force: bool = False) -> None:
    """Write files that belong together like `write`; none is renamed before all are complete.

    Raises:
        ScopeError: a file exists and `force` is not set, or a file cannot be written.
    """
    modes = {path: _mode(path, force) for path in contents}
    ready: dict[Path, Path] = {}
    path = next(iter(contents))
    try:
        for path, data in contents.items():
            content = data.encode("utf-8") if isinstance(data, str) else data
            mode = modes[path]
            if mode is not None and not stat.S_ISREG(mode):
                path.write_bytes(content)
            else:
                ready[path] = write_beside(path, content)
                # It is private; the finished file gets the permissions of any new file.
                permissions = new_file_mode() if mode is None else stat.S_IMODE(mode)
                os.chmod(ready[path], permissions)
        replaced = list(ready.items())
        for path, temporary in replaced:
            os.replace(temporary, path)
            del ready[path]
        sync_folders(path.parent for path, _ in replaced)
    except OSError as error:
        reason = display_line(error.strerror or str(error))
        raise ScopeError(
            f"cannot write {display_line(path)}: {reason}", f"another {option('out')}"
        ) from error
    finally:
        for temporary in ready.values():
            temporary.unlink(missing_ok=True)


def _mode(path: Path, force: bool) -> int | None:
    """Return the mode of the file, pipe or device at `path`; None if a new file is created.

    Raises:
        ScopeError: `path` is a folder, or a file exists and `force` is not set.
    """
    try:
        there = path.lstat().st_mode
    except (OSError, ValueError):
        return None
    mode = there
    if stat.S_ISLNK(there):
        try:
            mode = path.stat().st_mode
        except OSError:  # a broken link
            mode = there
        if mode != there and _stands_for_open(path):
            return stat.S_IFCHR
    if stat.S_ISDIR(mode):
        raise ScopeError(f"{display_line(path)} is a folder", f"{option('out')} with a file name")
    if (stat.S_ISREG(mode) or stat.S_ISLNK(mode)) and not force:
        raise ScopeError(f"{display_line(path)} exists", f"{option('force')} to replace it")
    if stat.S_ISLNK(there) and (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        return None  # a new file replaces the link
    return mode


def _stands_for_open(link: Path) -> bool:
    folder = os.path.realpath(link.parent)
    return any(folder == device or folder.startswith(f"{device}/") for device in _DEVICES)
