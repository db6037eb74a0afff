"""The GGUF files of LM Studio on this machine. They open by their paths."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("~/.lmstudio/models", "~/.cache/lm-studio/models")
"""Where LM Studio keeps its models: owner/repository/FILE.gguf."""
FILES = 10_000
"""Most entries that are looked at."""
_OTHER = re.compile(r"mmproj.*|.*-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)
"""Files that are no whole language model: parts for images, and files in several pieces."""


def lm_studio_files() -> Iterator[tuple[Path, int]]:
    """Yield the GGUF files in LM Studio's folders, with their sizes in bytes; links are skipped."""
    left = FILES
    for folder in FOLDERS:
        for entry in _entries(Path(os.path.expanduser(folder)), depth=3):
            left -= 1
            if left < 0:
                return
            name = entry.name.lower()
            if not name.endswith(".gguf") or _OTHER.fullmatch(name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield Path(entry.path), status.st_size


def _entries(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder and, `depth` folders deep, below it, without following links."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # it is not here, or cannot be read
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif depth > 1:
            yield from _entries(Path(entry.path), depth - 1)
