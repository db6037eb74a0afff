"""Restores what a pass changes in the model itself, so that no pass depends on an earlier one.

Some modules change as they run: a rotary embedding with dynamic NTK scaling keeps the frequencies
of the longest prompt that it has seen, and uses them for shorter ones as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 1 << 16
"""Most elements of a buffer that is copied, to be restored if a pass writes into it."""


@dataclass
class _Watched:
    """A module with buffers. `copies` of the small ones: name -> (buffer, version, copy)."""

    module: nn.Module
    copies: dict[str, tuple[Tensor, int, Tensor]] = field(default_factory=dict)

    def before(self) -> tuple[dict[str, Tensor | None], dict[str, Any]]:
        """Copy small changed buffers, and return the current buffers and plain attributes."""
        buffers = dict(self.module._buffers)
        for name, buffer in buffers.items():
            if buffer is None or buffer.numel() > LARGEST or buffer.is_inference():
                continue
            copied = self.copies.get(name)
            if copied is None or copied[0] is not buffer or copied[1] != buffer._version:
                self.copies[name] = (buffer, buffer._version, buffer.detach().clone())
        return buffers, {
            name: attribute for name, attribute in vars(self.module).items() if _plain(attribute)
        }

    def put_back(self, buffers: dict[str, Tensor | None], plain: dict[str, Any]) -> None:
        """Restore the buffers and attributes."""
        for name, buffer in buffers.items():
            if self.module._buffers.get(name) is not buffer:
                self.module._buffers[name] = buffer
            copied = self.copies.get(name)
            if copied is None or copied[0] is not buffer or copied[1] == buffer._version:
                continue
            with torch.no_grad():
                buffer.copy_(copied[2])
            self.copies[name] = (buffer, buffer._version, copied[2])
        attributes = vars(self.module)
        for name, value in plain.items():
            if attributes.get(name) is not value:
                attributes[name] = value


class RestoredBuffers:
    """The buffers and plain attributes of a model's modules, restored after each pass."""

    def __init__(self, model: nn.Module) -> None:
        # Not the model itself: a reference from here must not keep it alive.
        self._watched = [
            _Watched(module)
            for module in model.modules()
            if module._buffers and module is not model
        ]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore, on exit, the buffers and plain attributes that passes within change."""
        before = [(watched, *watched.before()) for watched in self._watched]
        try:
            yield
        finally:
            for watched, buffers, plain in before:
                watched.put_back(buffers, plain)


def _plain(value: Any) -> bool:
    return isinstance(value, int | float | Tensor)
