"""The entries of an npz file, each judged by its header before memory is given for it."""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

MOST = 10_000
"""Entries at most."""
_ENTRY = b"PK\x01\x02"
"""What each entry of the directory begins with."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_entries(data: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """Arrays of numbers, truth values and text by name. Nothing is unpickled.

    Args:
        limit: bytes of all entries together, at most.

    Raises:
        ValueError: there is something else in it, or too much.
        zipfile.BadZipFile: it is damaged.
    """
    if data.count(_ENTRY) > MOST:  # before the directory is read, which takes ten times its size
        raise ValueError(f"it holds more than {MOST} entries")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > limit:
            raise ValueError(f"it holds more than {limit >> 20} MB")
        found: dict[str, NDArray[Any]] = {}
        for entry in entries:
            if entry.compress_type not in _METHODS or entry.flag_bits & 1:
                raise ValueError("it is packed in a way that numpy does not use")
            with archive.open(entry) as file:
                found[entry.filename.removesuffix(".npy")] = _array(file.read())
    return found


def _array(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    header = _HEADERS.get(npy.read_magic(file))
    if header is None:
        raise ValueError("an entry is of a version that is not read")
    shape, fortran, dtype = header(file)
    if dtype.kind not in "biufU" or not dtype.itemsize:
        raise ValueError("an entry holds neither numbers nor text")
    rest = data[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(rest) or min(shape, default=0) < 0:
        raise ValueError("an entry is shorter or longer than its header says")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C")
