"""Read the entries of an npz file, checking each header before allocating memory."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from llmscope.export.bounds import MOST_AXES, MOST_NUMBERS

MOST_ENTRIES = 10_000
"""Maximum number of entries."""
_ENTRY = b"PK\x01\x02"
"""Signature of an entry of the zip directory."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_WIDEST = 8
"""Maximum size of a number in bytes."""


def npz_entries(data: bytes, limit: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of numbers, booleans and text by name. Nothing is unpickled.

    An entry is decompressed only after its header has been checked, into memory of exactly the
    size that the header gives.

    Args:
        data: the content of the file.
        limit: maximum size of all entries together, in bytes.

    Raises:
        ValueError: the file contains other types, or exceeds a limit.
        zipfile.BadZipFile: the file is damaged.
    """
    if (
        data.count(_ENTRY) > MOST_ENTRIES
    ):  # checked first: reading the directory takes ten times its size
        raise ValueError(f"it holds more than {MOST_ENTRIES} entries")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > limit:
            raise ValueError(f"it holds more than {limit >> 20} MB")
        arrays: dict[str, NDArray[Any]] = {}
        room = MOST_NUMBERS
        for entry in entries:
            if entry.compress_type not in _METHODS or entry.flag_bits & 1:
                raise ValueError("it is packed in a way that numpy does not use")
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError("it holds two entries of one name")
            with archive.open(entry) as file:
                arrays[name] = _array(file, entry.file_size, room)
            room -= arrays[name].size
    return arrays


def _array(file: IO[bytes], size: int, room: int) -> NDArray[Any]:
    """Read the array of an entry of `size` bytes, with at most `room` elements."""
    header = _HEADERS.get(npy.read_magic(file))
    if header is None:
        raise ValueError("an entry is of a version that is not read")
    shape, fortran, dtype = header(file)
    if dtype.kind not in "biufU" or not dtype.itemsize:
        raise ValueError("an entry holds neither numbers nor text")
    if dtype.kind == "U" and len(shape) > 1:
        raise ValueError("an entry holds a table of texts")
    if dtype.kind != "U" and dtype.itemsize > _WIDEST:
        raise ValueError("an entry holds numbers of more than 64 bits")
    count = math.prod(shape)
    if count * dtype.itemsize != size - file.tell() or min(shape, default=0) < 0:
        raise ValueError("an entry is shorter or longer than its header says")
    if len(shape) > MOST_AXES or max(shape, default=0) > MOST_NUMBERS or count > room:
        raise ValueError(f"it holds more than {MOST_NUMBERS:,} numbers, or more than 8 axes")
    raw = np.empty(count * dtype.itemsize, np.uint8)
    view, at = memoryview(raw.data), 0
    while at < len(view) and (taken := file.readinto(view[at:])):  # type: ignore[attr-defined]
        at += taken
    if at != len(view):
        raise ValueError("an entry is shorter than its header says")
    if dtype.kind == "b":
        raw = (raw != 0).view(np.uint8)  # normalize booleans stored as other bytes than 0 and 1
    array = raw.view(dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
