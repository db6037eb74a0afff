"""What the headers of weight files say of their tensors, read without the tensors themselves.

A header is the one thing about a checkpoint's size that cannot lie: its tensors have to lie in the
file. What a config says is held against it, see `llmscope.models.files.sizes`.
"""

from __future__ import annotations

import math
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.models.files.json_file import parse_json

HEADER_BYTES = 32 << 20
"""Largest header of a safetensors file; a shard with 10,000 tensors has a megabyte."""
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "C64": 64}


@dataclass(frozen=True)
class TensorHeaders:
    """The tensors of a checkpoint.

    Attributes:
        tensors: how many.
        elements: numbers in all of them.
        bytes: what they take in the files.
        largest: the largest dimension of one.
        names: their names.
    """

    tensors: int = 0
    elements: int = 0
    bytes: int = 0
    largest: int = 0
    names: frozenset[str] = frozenset()

    def __add__(self, other: TensorHeaders) -> TensorHeaders:
        """Return the tensors of both."""
        return TensorHeaders(
            self.tensors + other.tensors,
            self.elements + other.elements,
            self.bytes + other.bytes,
            max(self.largest, other.largest),
            self.names | other.names,
        )


def folder_headers(folder: Path) -> TensorHeaders:
    """Return the tensors of the safetensors files in a folder; of pickled ones if it has no others.

    Raises:
        OSError: a file cannot be read.
        ValueError: a header is damaged.
    """
    total = TensorHeaders()
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    for path in files:
        total += safetensors_headers(path)
    for path in () if files else sorted(folder.glob("*.bin")):
        if path.is_file():
            total += pickle_bounds(path)
    return total


def safetensors_headers(path: Path) -> TensorHeaders:
    """Return the tensors of a safetensors file.

    Raises:
        OSError: the file cannot be read.
        ValueError: its header is damaged.
    """
    tensors = safetensors_header(path)
    return tensor_headers((name, one["shape"], _length(one)) for name, one in tensors.items())


def safetensors_header(path: Path, *, whole: bool = True) -> dict[str, Mapping[str, Any]]:
    """Return dtype, shape and data_offsets of each tensor of a safetensors file.

    Args:
        whole: the tensors have to lie in the file; False for one of which a part is missing.

    Raises:
        OSError: the file cannot be read.
        ValueError: the header is damaged, or a tensor does not lie in the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length + 8 > size:
            raise ValueError("its header does not fit into it")
        if length > HEADER_BYTES:
            raise ValueError(f"its header has more than {HEADER_BYTES >> 20} MiB")
        try:
            header = parse_json(file.read(length))
        except ValueError as error:
            raise ValueError("its header cannot be read") from error
    if not isinstance(header, dict):
        raise ValueError("its header cannot be read")
    header.pop("__metadata__", None)
    room = size - 8 - length if whole else sys.maxsize
    for name, tensor in header.items():
        if not _is_tensor(tensor, room):
            raise ValueError(f"its header says what cannot be of {name[:80]}")
    return header


def pickle_bounds(path: Path) -> TensorHeaders:
    """Return bounds of what a pickled checkpoint holds, from its size; nothing is unpickled.

    torch writes each tensor's numbers into a file of their own in a zip archive, uncompressed.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            count = len(archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        count = size // 64  # the format before it: a tensor's pickle takes more than that
    return TensorHeaders(count, size, size, size)


def tensor_headers(tensors: Iterable[tuple[str, Iterable[int], int]]) -> TensorHeaders:
    """Return the headers of tensors by name, shape and bytes.

    Raises:
        ValueError: a tensor has more numbers than bits.
    """
    names, elements, taken, largest = [], 0, 0, 0
    for name, shape, length in tensors:
        names.append(name)
        dimensions = tuple(shape)
        count = math.prod(dimensions)
        taken += length
        if count > length * 8:  # less than a bit each: of a dtype that is not known here
            raise ValueError(f"its header says what cannot be of {name[:80]}")
        elements += count
        if count:  # a tensor without numbers may have any dimensions
            largest = max(largest, *dimensions, 0)
    return TensorHeaders(len(names), elements, taken, largest, frozenset(names))


def _is_tensor(tensor: Any, room: int) -> bool:
    """Whether an entry of a header is a tensor that lies in the `room` bytes after the header."""
    if not isinstance(tensor, dict):
        return False
    shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    if not all(type(one) is int and one >= 0 for one in (*shape, *offsets)):
        return False
    begin, end = offsets
    bits = _bits(str(tensor.get("dtype")))
    filled = bits is None or math.prod(shape) * bits == (end - begin) * 8
    return begin <= end <= room and len(shape) <= 64 and filled


def _bits(dtype: str) -> int | None:
    """Return the bits of one number of a dtype; None if safetensors may know it and we do not."""
    found = re.match(r"(?:BF|F|I|U)(\d+)", dtype)
    return _BITS[dtype] if dtype in _BITS else int(found[1]) if found else None


def _length(tensor: Mapping[str, Any]) -> int:
    begin, end = tensor["data_offsets"]
    return int(end) - int(begin)
