"""A KV cache whose tensors have room to grow, so that a typed letter does not copy all of it.

transformers' own layer joins the old and the new keys into a new tensor at every pass: at 8,000
tokens of a 135M model that copies 370 MB for one letter. Here a pass writes its rows behind those
that are there, in place, unless a recording that still exists has rows there: then it copies.
"""

from __future__ import annotations

from itertools import count
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

LEAST = 64
"""Fewest rows of free room that new buffers have."""
SHARE = 16
"""New buffers have one row of free room for this many rows that are filled."""


class Buffers:
    """Memory for the keys and values of all layers, which several recordings may share.

    Attributes:
        claims: of the recordings that exist, and of a pass that runs.
        layers: keys and values by layer. [1, head, row, width]
    """

    def __init__(self) -> None:
        self.claims: WeakSet[Claim] = WeakSet()
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def free_from(self, row: int) -> bool:
        """Return whether no recording has rows from this one on."""
        return all(claim.stop <= row for claim in self.claims)


class Claim:
    """What keeps the first `stop` rows of buffers from being overwritten while it exists."""

    def __init__(self, buffers: Buffers, stop: int) -> None:
        self.buffers, self.stop = buffers, stop
        buffers.claims.add(self)

    def cut(self, stop: int) -> Claim:
        """Return a claim on fewer rows."""
        return Claim(self.buffers, min(stop, self.stop))


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer of a cache, whose rows are in buffers.

    Args:
        claim: the claim of the pass, on all the rows that the prompt will have.
        index: the number of the layer.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, claim: Claim, index: int) -> None:
        super().__init__()
        self._claim, self._index = claim, index

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add rows, and return all. `[1, head, row, width]`"""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.keys.shape[-2] if self.keys.dim() == 4 else 0
        stop = before + key_states.shape[-2]
        layers = self._claim.buffers.layers
        if self._index not in layers or layers[self._index][0].shape[-2] < stop:
            rows = max(self._claim.stop, stop) + max(LEAST, stop // SHARE)
            new = (_empty(key_states, rows), _empty(value_states, rows))
            if before:
                for buffer, old in zip(new, (self.keys, self.values), strict=True):
                    buffer[..., :before, :] = old
            layers[self._index] = new
        keys, values = layers[self._index]
        keys[..., before:stop, :] = key_states
        values[..., before:stop, :] = value_states
        self.keys, self.values = keys[..., :stop, :], values[..., :stop, :]
        return self.keys, self.values


def growing_cache(
    past: tuple[tuple[Tensor, Tensor], ...], claim: Claim | None, length: int, stop: int
) -> tuple[DynamicCache, Claim]:
    """Return a cache that holds the first `length` rows, and the claim of the pass that fills it.

    Args:
        past: keys and values of each layer. [head, row, width]
        claim: the claim of the recording that they are of; None: they are in no buffers.
        length: the number of rows.
        stop: the number of rows that the prompt will have.
    """
    free = claim is not None and claim.buffers.free_from(length)
    own_claim = Claim(claim.buffers if claim is not None and free else Buffers(), stop)
    cache = DynamicCache()
    numbers = count(len(past))  # not the length of `cache`: a cycle would outlive the pass
    cache.layer_class_to_replicate = lambda: GrowingLayer(own_claim, next(numbers))
    for index, (keys, values) in enumerate(past):
        layer = GrowingLayer(own_claim, index)
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys[None, :, :length], values[None, :, :length]
        cache.layers.append(layer)
    return cache, own_claim


def _empty(like: Tensor, rows: int) -> Tensor:
    """Return memory for rows of this kind; on a CPU, pages that are never written cost nothing."""
    shape = (*like.shape[:-2], rows, like.shape[-1])
    return torch.empty(shape, dtype=like.dtype, device=like.device)
