"""The header of a GGUF file: its metadata and tensors, checked before a library reads them.

The gguf package trusts every count and length: an array of 10^12 items in a file of a kilobyte is
read forever, because numpy returns empty slices beyond the end.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmscope.models.files.weight_headers import TensorHeaders, tensor_headers

ITEMS = 3_000_000
"""Most items in all arrays together; a vocabulary of 262,144 tokens with merges has 1.3 million.
"""
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_DIMENSIONS = 8
_KEY_BYTES = 1 << 16
_NAME_BYTES = 256
_END = "it ends before its header does"


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a GGUF file.

    Attributes:
        shape: its sizes, the fastest first.
        kind: the number of its type.
        offset: of its first byte in the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        values: numbers and booleans of the metadata, by key; for an array of integers, its
            maximum.
        texts: the metadata that are short texts, by key.
        headers: the headers of its tensors.
        places: where its tensors lie, by name.
    """

    values: dict[str, Any]
    texts: dict[str, str]
    headers: TensorHeaders
    places: dict[str, TensorPlace]


def read_header(path: Path) -> GgufHeader:
    """Return the header of a GGUF file.

    Raises:
        OSError: the file cannot be read.
        ValueError: a count, a length or an offset is beyond the file, or larger than any model
            needs.
    """
    if not path.stat().st_size:
        raise ValueError(_END)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _HeaderReader(data).header()


class _HeaderReader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 4
        self._items = 0
        self._places: dict[str, TensorPlace] = {}
        version = struct.unpack_from("<I", data, 4)[0] if len(data) >= 24 else 0
        self._order = "<" if version & 0xFFFF else ">"

    def header(self) -> GgufHeader:
        """Read the whole header.

        Raises:
            ValueError: see `read_header`.
        """
        version = self._scalar("I")
        if version not in (2, 3):
            raise ValueError(f"it is of version {version}")
        tensors, entries = self._scalar("Q"), self._scalar("Q")
        self._room(tensors * 24 + entries * 13)  # the minimum bytes of each
        values = {}
        for _ in range(entries):
            key = self._text(_KEY_BYTES)
            value = self._value(self._scalar("I"))
            if key in values:
                raise ValueError(f"it has two values of {key[:80]}")
            values[key] = value
        headers = tensor_headers(self._tensors(tensors, values.get("general.alignment", 32)))
        if len(headers.names) != headers.tensors:
            raise ValueError("it has two tensors of one name")
        texts = {key: value for key, value in values.items() if isinstance(value, str)}
        known = {
            key: value
            for key, value in values.items()
            if value is not None and not isinstance(value, str)
        }
        return GgufHeader(known, texts, headers, self._places)

    def _tensors(self, count: int, alignment: Any) -> Iterator[tuple[str, list[int], int]]:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        if (
            type(alignment) is not int
            or not 0 < alignment <= 1 << 20
            or alignment & (alignment - 1)
        ):
            raise ValueError("its alignment is no power of two")
        entries = []
        for _ in range(count):
            name = self._text(_KEY_BYTES)
            dimensions = self._scalar("I")
            if dimensions > _DIMENSIONS:
                raise ValueError(f"its tensor {name[:80]} has {dimensions} dimensions")
            shape = [self._scalar("Q") for _ in range(dimensions)]
            kind = self._scalar("I")
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
            entries.append((name, shape, math.prod(shape) * size // block, self._scalar("Q")))
            self._places[name] = TensorPlace(tuple(shape), kind, entries[-1][3])
        begin = -(-self._at // alignment) * alignment
        left = len(self._data) - begin
        for name, _, length, offset in entries:
            if begin + offset + length > len(self._data):
                raise ValueError(f"its tensor {name[:80]} does not lie in it")
            left -= length
            place = self._places[name]
            self._places[name] = replace(place, offset=begin + offset)
        if left < 0:
            raise ValueError("its tensors overlap")
        return ((name, shape, length) for name, shape, length, _ in entries)

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._short_text(self._scalar("Q"))
        if kind == _ARRAY:
            return self._array()
        raise ValueError(f"it has a value of the unknown type {kind}")

    def _short_text(self, length: int) -> str | None:
        """Skip a text, and return it if it is as short as a name."""
        begin = self._at
        self._skip(length)
        if length > _NAME_BYTES:
            return None
        return self._data[begin : self._at].decode("utf-8", "replace")

    def _array(self) -> int | None:
        """Skip an array of numbers or strings, and return its largest integer or None."""
        kind, count = self._scalar("I"), self._scalar("Q")
        self._items += count
        if self._items > ITEMS:
            raise ValueError(f"its arrays have more than {ITEMS} items")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._scalar("Q"))
            return None
        if kind not in _SCALARS:
            raise ValueError("it has an array of arrays, or of an unknown type")
        form = f"{self._order}{count}{_SCALARS[kind]}"
        begin = self._at
        self._skip(struct.calcsize(form))
        if not count or _SCALARS[kind] in "?fd":
            return None
        return int(max(struct.unpack_from(form, self._data, begin)))

    def _text(self, limit: int) -> str:
        length = self._scalar("Q")
        if length > limit:
            raise ValueError(f"it has a name of {length} bytes")
        begin = self._at
        self._skip(length)
        return self._data[begin : self._at].decode("utf-8")

    def _scalar(self, form: str) -> Any:
        begin = self._at
        self._skip(struct.calcsize(f"<{form}"))
        return struct.unpack_from(self._order + form, self._data, begin)[0]

    def _skip(self, length: int) -> None:
        self._room(length)
        self._at += length

    def _room(self, length: int) -> None:
        if self._at + length > len(self._data):
            raise ValueError(_END)
