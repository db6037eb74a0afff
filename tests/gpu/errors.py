"""How far two tensors are apart, and how far rounding explains."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

FLOAT32 = 1e-4
"""The largest error in float32 that another order of sums explains, by the tensor's largest."""
ROUNDINGS = 4.0
"""Roundings of a layer in half precision that add up: of its norm, its attention, its MLP and the
stream, half an eps each, with room for a matrix that enlarges them twice."""
STATED = re.compile(r"within ([\d.e+-]+)")
EXACT = 1e-5
"""What a verdict promises in float32, which states no bound of its own."""


def bound(dtype: str, layers: int) -> float:
    """Return the allowed error, by the largest number of the tensor.

    In half precision each layer rounds anew, and independent roundings add up as a random walk
    does: with the root of the number of layers.
    """
    if dtype == "float32":
        return FLOAT32
    return ROUNDINGS * torch.finfo(getattr(torch, dtype)).eps * math.sqrt(layers)


def largest(found: Any, own: Any) -> float:
    """Return the largest error by the largest magnitude; infinity where shapes differ."""
    found, own = _both(found, own)
    if found.shape != own.shape:
        return math.inf
    scale = own.abs().max().clamp(min=1e-30)
    return float((found - own).abs().max() / scale)


def by_row(found: Any, own: Any) -> float:
    """Return the largest error of a row by the largest magnitude of that row. [..., width]"""
    found, own = _both(found, own)
    if found.shape != own.shape:
        return math.inf
    scale = own.abs().amax(-1).clamp(min=1e-30)
    return float(((found - own).abs().amax(-1) / scale).max())


def _both(found: Any, own: Any) -> tuple[Tensor, Tensor]:
    return tuple(torch.as_tensor(one).detach().cpu().double() for one in (found, own))  # type: ignore[return-value]


def stated(verdict: Any) -> float:
    """Return the error by row that a verified figure promises not to exceed."""
    told = STATED.match(verdict.within)
    return float(told[1]) if told else max(EXACT, verdict.discrepancy or 0.0)
