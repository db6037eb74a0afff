"""The arrays of an `.npz` file, judged by their headers before any is read."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

from numpy.lib import format as npy

MOST_ARRAYS = 64
"""Arrays that such a file may hold."""


def read_archive(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in an `.npz` file, by name. Reads their headers alone.

    Raises:
        ValueError: an array is pickled, or its size is not the one that the archive tells.
        zipfile.BadZipFile, OSError: the file cannot be read.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"it holds {len(members)} arrays")
        for member in members:
            with archive.open(member) as opened:
                version = npy.read_magic(opened)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read(opened)
            if dtype.hasobject:
                raise ValueError(f"its {member.filename} is pickled, and loading that can run code")
            if not 0 <= member.file_size - math.prod(shape) * dtype.itemsize < 1 << 16:
                raise ValueError(f"its {member.filename} is not as large as it tells")
            shapes[member.filename.removesuffix(".npy")] = tuple(shape)
    return shapes
