"""Shards: the figures of one step as safetensors, without what the run's first step holds too.

A tensor is named `KEY|NAME`: `values` or a numeric array of `extra`. The entry `figures` of the
file's metadata is JSON: for each key, the other entries that differ from the first step's, and the
names of arrays and entries that the first step has and this one lacks.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from llmscope.errors import ScopeError
from llmscope.export.bounds import parse_json
from llmscope.export.read import figure_from
from llmscope.export.split import VALUES, halves
from llmscope.figure import Figure
from llmscope.support.lines import open_file

Arrays = dict[str, NDArray[Any]]
LARGEST = 1 << 28
"""Maximum size of a shard in bytes."""
EXTRA = "extra."
"""Prefix of entries that are in a figure's `extra`."""
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "|b1",
}


@dataclass(frozen=True)
class Packed:
    """A figure as arrays and JSON entries, both flat."""

    arrays: Arrays
    entries: dict[str, Any]


def pack(figure: Figure) -> Packed:
    """Return a figure's arrays and its other entries, those of `extra` under `extra.NAME`."""
    arrays, record = halves(figure, scalars=False)
    extra = record.pop("extra")
    return Packed(arrays, {**record, **{EXTRA + key: value for key, value in extra.items()}})


def unpack(packed: Packed) -> Figure:
    """Return the figure.

    Raises:
        ValueError: it is no valid figure.
    """
    extra = {
        key.removeprefix(EXTRA): value
        for key, value in packed.entries.items()
        if key.startswith(EXTRA)
    }
    record = {key: value for key, value in packed.entries.items() if not key.startswith(EXTRA)}
    return figure_from({**record, "extra": extra}, packed.arrays)


def shard_bytes(figures: Mapping[str, Packed], base: Mapping[str, Packed]) -> bytes:
    """Return a shard with what differs from the first step.

    Args:
        figures: the figures of the step by key.
        base: those of the first step; empty for the first step itself.

    Raises:
        ScopeError: it would be too large to be read.
    """
    tensors: Arrays = {}
    records: dict[str, Any] = {}
    for key, packed in figures.items():
        first = base.get(key, Packed({}, {}))
        for name, array in packed.arrays.items():
            if name not in first.arrays or not _same(array, first.arrays[name]):
                tensors[f"{key}|{name}"] = np.ascontiguousarray(array).reshape(array.shape)
        records[key] = {
            "entries": {
                name: value
                for name, value in packed.entries.items()
                if name not in first.entries or first.entries[name] != value
            },
            "gone": [name for name in first.entries if name not in packed.entries],
            "gone_arrays": [name for name in first.arrays if name not in packed.arrays],
        }
    text = json.dumps(records, allow_nan=False, separators=(",", ":"))
    data = bytes(save(tensors, metadata={"figures": text}))
    if len(data) > LARGEST:
        raise ScopeError(
            f"the figures of a step take {len(data) >> 20} MB, of at most {LARGEST >> 20}",
            "fewer or shorter prompts, or attention of one layer",
        )
    return data


def _same(array: NDArray[Any], other: NDArray[Any]) -> bool:
    """Return whether two arrays are equal bit for bit."""
    return (
        array.dtype == other.dtype
        and array.shape == other.shape
        and array.tobytes() == other.tobytes()
    )


@dataclass(frozen=True)
class RunShard:
    """The content of a shard's file; its tensors are converted when they are asked for."""

    data: bytes
    base: Mapping[str, Packed] = field(default_factory=dict)

    @classmethod
    def read(
        cls, path: Path, base: Mapping[str, Packed], size: int | None = None, crc: int | None = None
    ) -> RunShard:
        """Read a shard.

        Args:
            path: the file.
            base: the figures of the first step.
            size: its expected size in bytes; None: any.
            crc: its expected CRC-32; None: any.

        Raises:
            ValueError: it is damaged.
            OSError: it cannot be read.
        """
        with open_file(path) as file:
            data = file.read((LARGEST if size is None else min(size, LARGEST)) + 1)
        if size is not None and len(data) != size:
            raise ValueError(f"{len(data)} bytes in place of {size}")
        if len(data) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST >> 20} MB")
        if crc is not None and zlib.crc32(data) != crc:
            raise ValueError("its checksum differs")
        shard = cls(data, base)
        _ = shard._header, shard._records
        return shard

    @cached_property
    def _header(self) -> dict[str, Any]:
        length = int.from_bytes(self.data[:8], "little")
        if not 2 <= length <= len(self.data) - 8:
            raise ValueError("its header is cut off")
        header = parse_json(self.data[8 : 8 + length])
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        return header

    @cached_property
    def _records(self) -> dict[str, Any]:
        records = parse_json(self._header["__metadata__"]["figures"])
        if not isinstance(records, dict):
            raise ValueError("its figures are no JSON object")
        for record in records.values():
            if not isinstance(record, dict):
                raise ValueError("a figure is described wrongly")
            entries, *gone = (record.get(name) for name in ("entries", "gone", "gone_arrays"))
            if not isinstance(entries, dict) or not all(isinstance(names, list) for names in gone):
                raise ValueError("a figure is described wrongly")
        return records

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys of its figures."""
        return tuple(self._records)

    def array(self, key: str, name: str = VALUES) -> NDArray[Any] | None:
        """Return an array of a figure; None if the figure lacks it.

        Raises:
            ValueError: the file is damaged.
        """
        about = self._header.get(f"{key}|{name}")
        if about is None:
            gone = self._records.get(key, {}).get("gone_arrays", ())
            first = self.base.get(key)
            base = None if first is None or name in gone else first.arrays.get(name)
            return None if key not in self._records else base
        try:
            start, stop = about["data_offsets"]
            shape = tuple(map(int, about["shape"]))
            first_byte = 8 + int.from_bytes(self.data[:8], "little")
            if not 0 <= start <= stop <= len(self.data) - first_byte:
                raise ValueError("a tensor is cut off")
            raw = self.data[first_byte + start : first_byte + stop]
            return np.frombuffer(raw, _DTYPES[about["dtype"]]).reshape(shape)
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError("a tensor is described wrongly") from error

    def entry(self, key: str, name: str) -> Any:
        """Return an entry of a figure, such as `extra.target_probability`; None without it."""
        record = self._records.get(key)
        if record is None:
            return None
        entries = record["entries"]
        if name in entries:
            return entries[name]
        first = self.base.get(key)
        return None if first is None or name in record["gone"] else first.entries.get(name)

    def differs(self, key: str, names: Sequence[str]) -> bool:
        """Return whether any of these entries of a figure is not as in the first step."""
        record = self._records.get(key, {})
        entries, gone = record.get("entries", {}), record.get("gone", ())
        return any(name in entries or name in gone for name in names)

    def packed(self, key: str) -> Packed:
        """Return a figure, completed from the first step.

        Raises:
            KeyError: it holds no such figure.
            ValueError: the file is damaged.
        """
        record = self._records[key]
        try:
            first = self.base.get(key, Packed({}, {}))
            own_names = {
                name.partition("|")[2] for name in self._header if name.partition("|")[0] == key
            }
            names = (own_names | set(first.arrays)) - set(record["gone_arrays"])
            arrays = {name: self.array(key, name) for name in sorted(names)}
            entries_kept = {k: v for k, v in first.entries.items() if k not in record["gone"]}
            entries = {**entries_kept, **record["entries"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("a figure is described wrongly") from error
        return Packed({k: v for k, v in arrays.items() if v is not None}, entries)
