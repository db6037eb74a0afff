"""How much memory the rows of long prompts take: a bound, beyond which rows are released.

Rows are what a pass keeps of a token in every layer: some hundred kilobytes for a small model. The
keys and values of a released row stay in the cache, so that it can be computed again on top of
them (`Recorder.restore`), or it is written to a file, which the system reads back as needed.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from weakref import ref

import numpy as np
import torch
from torch import Tensor

from llmscope.models.loaded_model import RowMemory
from llmscope.record.capture.recording import RESIDENT, LayerRows, Segment

SMALL = 64
"""Segments of fewer rows, such as typed letters, are always kept."""
BEFORE_RELEASE: list[Callable[[Segment], None]] = []
"""Called with a segment whose rows are about to go: keep what costs little and needs all rows."""
ALIGNED = 64
"""Tensors in a file begin at multiples of this many bytes."""


class RowBudget:
    """The rows that are in memory, least recently used first, and the bound on their size.

    Args:
        memory: the bound. The newest segment is kept even if it alone is larger.
    """

    def __init__(self, memory: RowMemory) -> None:
        self.limit, self.spill = memory.limit, memory.spill
        self.bytes = 0
        self._row = 0  # bytes of a row of the newest segment
        self._held: OrderedDict[tuple[int, int], tuple[ref[Segment], int]] = OrderedDict()

    def hold(self, segment: Segment, block: int = -1) -> None:
        """Count a segment's rows, or one restored block of them, and release others if needed."""
        rows = segment.layers if block < 0 else segment.blocks[block]
        key = (id(segment), block)
        self._forget(key)
        size = size_of(rows) + (segment.final.nbytes if block < 0 else 0)
        gone = ref(segment, lambda _, key=key: self._forget(key))  # type: ignore[misc]
        self._held[key] = (gone, size)
        self.bytes += size
        self._row = size // len(segment) if block < 0 else self._row
        segment.used = self.touch
        while self.bytes > self.limit and len(self._held) > 1:
            self._release(next(iter(self._held)))

    def make_room(self, rows: int) -> None:
        """Release rows until as many as `rows` new ones of the same model stay within the bound."""
        while self._held and self.bytes + rows * self._row > self.limit:
            self._release(next(iter(self._held)))

    def touch(self, segment: Segment, block: int = -1) -> None:
        """Count rows as used now."""
        key = (id(segment), block)
        if key in self._held:
            self._held.move_to_end(key)

    def _forget(self, key: tuple[int, int]) -> None:
        _, size = self._held.pop(key, (None, 0))
        self.bytes -= size

    def _release(self, key: tuple[int, int]) -> None:
        segment, block = self._held[key][0](), key[1]
        self._forget(key)
        if segment is None:
            return
        if block >= 0:
            segment.blocks.pop(block, None)
        elif self.spill is not None:
            segment.devices = tuple(layer.stream.device for layer in segment.layers)
            segment.layers = _map_to_file(segment.layers, self.spill)
        else:
            for keep in BEFORE_RELEASE:
                keep(segment)
            segment.release()


def _map_to_file(rows: tuple[LayerRows, ...], folder: Path) -> tuple[LayerRows, ...]:
    """Return the same rows as views of a temporary file, which ends with them."""
    with tempfile.TemporaryFile(dir=folder) as file:
        places: list[dict[str, int]] = []
        for layer in rows:
            places.append({})
            for name, tensor in _tensors(layer).items():
                if name not in RESIDENT:
                    places[-1][name] = file.tell()
                    flat = tensor.detach().cpu().contiguous().flatten()
                    file.write(flat.view(torch.uint8).numpy().tobytes())
                    file.write(bytes(-file.tell() % ALIGNED))
        file.flush()
        whole = torch.from_numpy(np.memmap(file, np.uint8, mode="c"))

    def back(layer: LayerRows, at: dict[str, int]) -> LayerRows:
        tensors = {
            name: whole[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            for name, start in at.items()
            for tensor in (getattr(layer, name),)
        }
        return replace(layer, **tensors)  # type: ignore[arg-type]

    return tuple(map(back, rows, places))


def _tensors(rows: LayerRows) -> dict[str, Tensor]:
    values = {field.name: getattr(rows, field.name) for field in fields(LayerRows)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def size_of(rows: tuple[LayerRows, ...]) -> int:
    """Return the bytes of all tensors of some rows."""
    return sum(tensor.nbytes for layer in rows for tensor in _tensors(layer).values())
