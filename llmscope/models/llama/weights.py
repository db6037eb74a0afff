"""The weights of a GGUF file, dequantised one at a time when a figure reads them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llmscope.models.sources.gguf_header import TensorPlace

MOST = 64 << 20
"""Bytes of dequantised weights that are kept for the next figure."""


class GgufWeights:
    """The weights of one file, in float32.

    Args:
        path: the file.
        places: where its tensors lie, as its header says that was judged.
    """

    def __init__(self, path: Path, places: Mapping[str, TensorPlace]) -> None:
        self._path, self._places = path, places
        self._cached: OrderedDict[str, Tensor] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a weight as torch says it: `[output, input]`."""
        return tuple(reversed(self._places[name].shape))

    @property
    def kinds(self) -> set[str]:
        """The types of the weights, such as `Q4_K`."""
        from gguf.constants import GGMLQuantizationType

        return {GGMLQuantizationType(place.kind).name for place in self._places.values()}

    @property
    def count(self) -> int:
        """The number of all weights."""
        return sum(math.prod(place.shape) for place in self._places.values())

    def __call__(self, name: str) -> Tensor:
        """Return a weight in float32."""
        if name in self._cached:
            self._cached.move_to_end(name)
            return self._cached[name]
        weight = self._dequantized(name)
        self._cached[name] = weight
        while len(self._cached) > 1 and sum(each.nbytes for each in self._cached.values()) > MOST:
            self._cached.popitem(last=False)
        return weight

    def expert(self, name: str, expert: int) -> Tensor:
        """Return the weight of one expert of a stack in float32. [output, input]"""
        return self._dequantized(name, expert)

    def _dequantized(self, name: str, item: int | None = None) -> Tensor:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        place, shape = self._places[name], self.shape(name)
        kind = GGMLQuantizationType(place.kind)
        block, size = GGML_QUANT_SIZES[kind]
        begin = place.offset
        if item is not None:
            shape = shape[1:]
            begin += item * (math.prod(shape) * size // block)
        count = math.prod(shape) * size // block
        data = np.fromfile(self._path, np.uint8, count, offset=begin)
        rows = data.reshape(*shape[:-1], shape[-1] * size // block)
        plain = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
        values = rows.view(plain[kind.name]) if kind.name in plain else dequantize(rows, kind)
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).view(shape)
