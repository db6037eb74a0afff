"""The hub's own cache, which other programs use too: where it is and how large, nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path


def hub_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of huggingface_hub's cache, by the variables that it reads itself.

    It is not imported: the light distribution does not bring it.
    """
    base = environ.get("XDG_CACHE_HOME", os.path.join("~", ".cache"))
    home = environ.get("HF_HOME", os.path.join(base, "huggingface"))
    older = environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(home, "hub"))
    folder = environ.get("HF_HUB_CACHE", older)
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder, each counted once; links are not followed."""
    total = 0
    for home, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(home, name))
            except OSError:
                continue  # removed in the meantime
            if stat.S_ISREG(status.st_mode):
                total += status.st_size
    return total
