"""Read the tensor headers of weight files without reading the tensors.

A header is reliable about a checkpoint's size, because its tensors have to lie in the file. The
config is checked against it; see `llmscope.models.files.sizes`.
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
"""Largest header of a safetensors file in bytes; a shard with 10,000 tensors has a megabyte."""
MOST_DIMENSIONS = 64
"""Maximum dimensions of a tensor, as in torch."""
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "C64": 64}


@dataclass(frozen=True)
class TensorHeaders:
    """A summary of a checkpoint's tensors.

    Attributes:
        tensors: the number of tensors.
        elements: the total number of elements.
        bytes: their total size in the files.
        largest: the largest dimension of any tensor.
        names: their names.
    """

    tensors: int = 0
    elements: int = 0
    bytes: int = 0
    largest: int = 0
    names: frozenset[str] = frozenset()

    def __add__(self, other: TensorHeaders) -> TensorHeaders:
        """Return the summary of both."""
        return TensorHeaders(
            self.tensors + other.tensors,
            self.elements + other.elements,
            self.bytes + other.bytes,
            max(self.largest, other.largest),
            self.names | other.names,
        )


def folder_headers(folder: Path) -> TensorHeaders:
    """Return the headers of a folder's safetensors files; without any, bounds of pickled ones.

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


def tensor_bytes(folder: Path) -> dict[str, int]:
    """Return the bytes of each tensor in a folder's safetensors files, by name.

    Raises:
        OSError: a file cannot be read.
        ValueError: a header is damaged.
    """
    sizes: dict[str, int] = {}
    for path in folder.glob("*.safetensors"):
        if path.is_file():
            sizes |= {name: _length(header) for name, header in safetensors_header(path).items()}
    return sizes


def safetensors_headers(path: Path) -> TensorHeaders:
    """Return the headers of a safetensors file.

    Raises:
        OSError: the file cannot be read.
        ValueError: its header is damaged.
    """
    tensors = safetensors_header(path)
    return tensor_headers(
        (name, header["shape"], _length(header)) for name, header in tensors.items()
    )


def safetensors_header(path: Path, *, whole: bool = True) -> dict[str, Mapping[str, Any]]:
    """Return dtype, shape and data_offsets of each tensor of a safetensors file.

    Args:
        path: the file.
        whole: require that the tensors lie in the file; False for a partial file.

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
            raise ValueError(f"its header has an invalid entry for {name[:80]}")
    return header


def pickle_bounds(path: Path) -> TensorHeaders:
    """Return upper bounds for a pickled checkpoint from its size, without unpickling.

    torch writes each tensor's data uncompressed into its own file in a zip archive.

    Raises:
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            count = len(archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        count = size // 64  # torch's older format: a tensor's pickle takes more
    return TensorHeaders(count, size, size, size)


def tensor_headers(tensors: Iterable[tuple[str, Iterable[int], int]]) -> TensorHeaders:
    """Return the summary of tensors given by name, shape and size in bytes.

    Raises:
        ValueError: a tensor has more elements than bits.
    """
    names, elements, total, largest = [], 0, 0, 0
    for name, shape, length in tensors:
        names.append(name)
        dimensions = tuple(shape)
        count = math.prod(dimensions)
        total += length
        if count > length * 8:  # less than a bit per element, of an unknown dtype
            raise ValueError(f"its header has an invalid entry for {name[:80]}")
        elements += count
        if count:  # an empty tensor may have any dimensions
            largest = max(largest, *dimensions, 0)
    return TensorHeaders(len(names), elements, total, largest, frozenset(names))


def _is_tensor(tensor: Any, room: int) -> bool:
    """Return whether a header entry is a tensor within the `room` bytes after the header."""
    if not isinstance(tensor, dict):
        return False
    shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    if len(shape) > MOST_DIMENSIONS:  # before they are multiplied
        return False
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)):
        return False
    begin, end = offsets
    bits = _bits(str(tensor.get("dtype")))
    filled = bits is None or math.prod(shape) * bits == (end - begin) * 8
    return begin <= end <= room and filled


def _bits(dtype: str) -> int | None:
    """Return the bits per element of a dtype; None if it is not known to llmscope."""
    match = re.match(r"(?:BF|F|I|U)(\d+)", dtype)
    return _BITS[dtype] if dtype in _BITS else int(match[1]) if match else None


def _length(tensor: Mapping[str, Any]) -> int:
    begin, end = tensor["data_offsets"]
    return int(end) - int(begin)
