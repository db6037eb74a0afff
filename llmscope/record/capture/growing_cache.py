"""A KV cache whose tensors have room to grow, so that a typed letter does not copy all of it.

transformers' own layer joins the old and the new keys into a new tensor at every pass: at 8,000
tokens of a 135M model that copies 370 MB for one letter. Here a pass writes its rows behind those
that are there, in place, if nothing was written behind them yet. Rows are never overwritten, so
every earlier recording's view of the same memory stands: a second continuation of the same prefix
finds the room taken, and copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

LEAST = 64
"""Fewest rows of free room that a new buffer has."""
SHARE = 16
"""A new buffer has one row of free room for this many rows that are filled."""


class Room:
    """Memory of one layer's keys and values: `filled` rows are in use. [1, head, row, width]"""

    def __init__(self, keys: Tensor, values: Tensor, rows: int) -> None:
        self.keys, self.values = _empty(keys, rows), _empty(values, rows)
        self.filled = 0

    def add(self, start: int, keys: Tensor, values: Tensor) -> bool:
        """Write rows behind the first `start`; return False if other rows are there, or no room."""
        stop = start + keys.shape[-2]
        if self.filled != start or stop > self.keys.shape[-2]:
            return False
        self.keys[..., start:stop, :] = keys
        self.values[..., start:stop, :] = values
        self.filled = stop
        return True


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """One layer of a cache, which writes into a `Room`.

    Args:
        whole: the number of rows that the prompt will have, so that a pass in chunks finds room.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, whole: int = 0) -> None:
        super().__init__()
        self.room: Room | None = None
        self._whole = whole
        self._before: int | None = None

    def undo(self) -> None:
        """Give the room back that this layer took: its pass was given up."""
        if self.room is not None and self._before is not None:
            self.room.filled = self._before

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add rows, and return all. `[1, head, row, width]`"""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.keys.shape[-2] if self.keys.dim() == 4 else 0
        stop = before + key_states.shape[-2]
        room = self.room
        if room is None or not room.add(before, key_states, value_states):
            rows = max(self._whole, stop) + max(LEAST, stop // SHARE)
            room = self.room = Room(key_states, value_states, rows)
            if before:
                room.add(0, self.keys, self.values)
            room.add(before, key_states, value_states)
        self._before = before
        self.keys, self.values = room.keys[..., :stop, :], room.values[..., :stop, :]
        return self.keys, self.values


def _empty(like: Tensor, rows: int) -> Tensor:
    """Return memory for rows of this kind; on a CPU, pages that are never written cost nothing."""
    shape = (*like.shape[:-2], rows, like.shape[-1])
    return torch.empty(shape, dtype=like.dtype, device=like.device)
