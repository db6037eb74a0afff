"""Two models in memory: tensors that are equal in both are held once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers of the same size, by bytes."""


@dataclass(frozen=True)
class Shared:
    """How much of a model's weights another one holds too, in bytes.

    Attributes:
        bytes: of the tensors that are held once now.
        total: of all tensors of the second model.
    """

    bytes: int
    total: int


def share_weights(a: nn.Module, b: nn.Module) -> Shared:
    """Let each parameter and buffer of `b` use the storage of the equal one in `a`.

    Tensors are equal if name, shape, dtype, device and every bit are, so that the numbers of `b` do
    not change, and a fine-tune of a few layers takes the memory of a few layers. Tied weights stay
    tied. Tensors with a class of their own, such as packed 4-bit weights, are left alone.
    """
    ours = dict(_tensors(a))
    shared = total = 0
    for name, tensor in _tensors(b):
        size = tensor.nbytes
        total += size
        other = ours.get(name)
        if other is not None and _equal(other, tensor):
            tensor.data = other.data
            shared += size
    return Shared(shared, total)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers by name, each once."""
    return chain(model.named_parameters(), model.named_buffers())


def _equal(a: Tensor, b: Tensor) -> bool:
    kinds = {type(module) for module in (a, b)}
    if not kinds <= {nn.Parameter, Tensor, nn.Buffer} or a.is_meta or b.is_meta:
        return False
    if (a.shape, a.dtype, a.device, a.layout) != (b.shape, b.dtype, b.device, b.layout):
        return False
    bits = _BITS.get(a.dtype.itemsize)
    if a.layout != torch.strided or a.is_quantized or bits is None or a.dtype.is_complex:
        return False
    # By bits, since 0 equals -0 and NaN does not equal itself.
    return torch.equal(a.detach().view(bits), b.detach().view(bits))
