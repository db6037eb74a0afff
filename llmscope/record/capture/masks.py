"""Reads what an attention mask hides besides the future: windows, chunks, other earlier keys."""

from __future__ import annotations

from collections import deque
from weakref import ReferenceType, ref

import torch
from torch import Tensor

_latest: deque[tuple[ReferenceType[Tensor], Tensor | None]] = deque(maxlen=4)
"""The masks read last: the layers of a pass share them."""


def first_visible(mask: Tensor | None) -> Tensor | None:
    """Return the first key that each query sees, if it sees every key from there to its own.

    Args:
        mask: `[batch, 1, query, key]` of booleans, true where a query sees a key; or of numbers
            that are added to the scores. Only the first prompt of the batch is read.

    Returns:
        [query]; None without a mask, or with one that hides anything else: the check of the
        patterns then refuses them.
    """
    if mask is None or mask.dim() != 4 or mask.shape[1] != 1:
        return None
    for mask_ref, visible in _latest:
        if mask_ref() is mask:
            return visible
    visible = _first(mask[0, 0])
    _latest.append((ref(mask), visible))
    return visible


def key_bias(mask: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return the bias that a mask adds to each key's scores, equal for all queries that see it.

    Args:
        mask: as in `first_visible`, for one head or for all.

    Returns:
        The bias, [head, key], and which keys a query sees, [1, 1, query, key]; None if the mask
        adds nothing, or anything else.
    """
    if mask is None or mask.dim() != 4 or not mask.is_floating_point():
        return None
    added = mask[0]  # [head, query, key]
    bias = added.amax(-2)
    visible = added > torch.finfo(mask.dtype).min / 2
    if not bool(((bias > torch.finfo(mask.dtype).min / 2) & (bias != 0)).any()):
        return None
    alike = (visible == visible[:1]) & ((added == bias[:, None]) | ~visible)
    return (bias, visible[None, :1]) if bool(alike.all()) else None


def _first(mask: Tensor) -> Tensor | None:
    """Return `first_visible` of one prompt's mask. `[query, key]`"""
    if mask.dtype == torch.bool:
        visible, known = mask, None
    elif mask.is_floating_point():
        visible = mask == 0
        known = visible | (mask <= torch.finfo(mask.dtype).min / 2)  # else the mask holds biases
    else:
        return None
    first = visible.to(torch.uint8).argmax(-1)
    queries, keys = mask.shape
    own_column = torch.arange(keys - queries, keys, device=mask.device)
    simple = (visible.sum(-1) == own_column - first + 1).all()
    if known is not None:
        simple = simple & known.all()
    return first if bool(simple) else None  # one wait for the device
