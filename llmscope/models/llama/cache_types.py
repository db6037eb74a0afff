"""The types of llama.cpp's KV cache, and how each rounds the keys and values in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 32
"""Numbers that share a scale in ggml's quantised types."""
LONGEST = 4096
"""Most tokens of a prompt, if the model was trained on as many: its KV cache is reserved."""
DEFAULT = "f16"
"""The type that llama.cpp takes by default."""


@dataclass(frozen=True)
class CacheType:
    """A type of the KV cache.

    Attributes:
        number: the number of its type in ggml.
        block_bytes: the bytes of a block of 32 numbers.
        precision: the dtype that rounds as coarsely as attention over it does: with a quantised
            cache, llama.cpp rounds the queries to 8 bits too.
        to_stored: returns blocks as they are in the cache. [..., 32] -> [..., 32]
        quantised: whether numbers share scales: llama.cpp then needs flash attention.
    """

    number: int
    block_bytes: int
    precision: torch.dtype
    to_stored: Callable[[Tensor], Tensor]
    quantised: bool = False

    def rounded(self, rows: Tensor, rotated: int = 0) -> Tensor:
        """Return keys or values of heads as they are read from the cache. `[..., width]`

        Args:
            rows: what is written to it.
            rotated: how many neighbouring numbers llama.cpp turns together before it rounds them;
                0: none.
        """
        if not self.quantised:
            return self.to_stored(rows)
        turned = hadamard(rows, rotated) if rotated else rows
        blocks = turned.reshape(*rows.shape[:-1], -1, BLOCK)
        stored = self.to_stored(blocks).reshape(rows.shape)
        return hadamard(stored, rotated) if rotated else stored

    def rounded_queries(self, rows: Tensor, rotated: int = 0) -> Tensor:
        """Return queries as their products with the keys read them. `[..., width]`

        llama.cpp rounds them as the keys are, and to 8 bits where the keys are quantised.
        """
        return (CACHE_TYPES["q8_0"] if self.quantised else self).rounded(rows, rotated)


def hadamard(rows: Tensor, size: int) -> Tensor:
    """Multiply each `size` neighbouring numbers by the orthogonal Hadamard matrix, its own inverse.

    It adds in the same order however many rows there are, so that a row gives the same bits.

    Args:
        rows: the rows. [..., width], a multiple of `size`
        size: a power of two.
    """
    blocks = rows.reshape(*rows.shape[:-1], -1, size)
    span = 1
    while span < size:
        pairs = blocks.reshape(*blocks.shape[:-1], size // (2 * span), 2, span)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        blocks = torch.stack([first + second, first - second], -2).reshape(blocks.shape)
        span *= 2
    return (blocks / math.sqrt(size)).reshape(rows.shape)


def _q8_0(blocks: Tensor) -> Tensor:
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    steps = torch.where(scale > 0, blocks * (1 / scale), 0).round()
    return steps * scale.half().float()


def _q4_0(blocks: Tensor) -> Tensor:
    places = blocks.abs().argmax(-1, keepdim=True)
    scale = blocks.gather(-1, places) / -8
    steps = torch.where(scale != 0, blocks * (1 / scale) + 8.5, 8.0).floor().clamp(0, 15) - 8
    return steps * scale.half().float()


CACHE_TYPES: Mapping[str, CacheType] = {
    "f32": CacheType(0, 128, torch.float32, lambda rows: rows),
    "f16": CacheType(1, 64, torch.float16, lambda rows: rows.half().float()),
    "q8_0": CacheType(8, 34, torch.bfloat16, _q8_0, quantised=True),
    "q4_0": CacheType(2, 18, torch.bfloat16, _q4_0, quantised=True),
}
"""Name -> type, as `--cache-type` takes it."""
