"""Which files below some folders processes of this user have open or mapped. Linux alone tells."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")


def open_files(folders: Iterable[Path]) -> dict[str, int]:
    """Return the open files below the folders, each with a process that has it open.

    Files of other users' processes are not seen, and on systems without /proc no file is.
    """
    homes = tuple(f"{os.path.realpath(folder)}{os.sep}" for folder in folders)
    files: dict[str, int] = {}
    with suppress(OSError):
        for entry in os.scandir(_PROCESSES):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                for name in _of(Path(entry.path)):
                    if name.startswith(homes):
                        files[name] = int(entry.name)
    return files


def _of(process: Path) -> Iterator[str]:
    """Yield the files that a process has open or mapped, as far as it may be asked."""
    with suppress(OSError):
        for entry in os.scandir(process / "fd"):
            with suppress(OSError):
                yield os.readlink(entry.path)
    with suppress(OSError):
        maps = (process / "maps").read_text(encoding="utf-8", errors="surrogateescape")
        for line in maps.splitlines():
            # address, permissions, offset, device, inode, and the path if it is of a file
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and parts[5].startswith("/"):
                yield parts[5]
