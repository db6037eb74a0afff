"""Derivations from patterns: weighting by values, removal of sinks, rollout over layers."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.capture.recording import Recording
from llmscope.record.derive.tensors import check_heads, pattern, values_of

CHUNK = 256
"""Number of queries whose whole rows of one layer are held at once beside the result."""

LONGEST_ROLLOUT = 1024
"""Most tokens of a prompt for a rollout, which needs all patterns of all layers."""


def sinks_of(recording: Recording) -> NDArray[np.bool_]:
    """Return which keys may be attention sinks: the first token and special ones. [key]"""
    resting = np.array(recording.prompt.special[: len(recording)], dtype=bool)
    resting[0] = True
    return resting


def without(weights: NDArray[np.float32], resting: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Remove keys from a pattern, and normalize each row's other keys to sum to 1. [query, key]

    Removed keys are NaN, and so are rows without weight on any other key.
    """
    left = np.where(resting, np.nan, weights)
    total = np.nansum(left, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest: NDArray[np.float32] = (left / total).astype(np.float32)
    return rest


GATED_CHUNK = 64
"""Number of queries whose gated values are held at once."""


def value_lengths(recording: Recording, layer: int, head: int, rows: range) -> Tensor:
    """Return the norm of a head's write if it saw one key alone: ‖vⱼ W_O‖, ‖(gᵢ ∘ vⱼ) W_O‖.

    Returns:
        [key], or [query, key] if a gate of the query precedes the output projection.

    Raises:
        ValueError: the layer's values or its output projection are not available; or a head's
            write depends on the other heads.
    """
    if recording.model.anatomy.layers[layer].heads_norm is not None:
        raise WrongValueError(
            "all heads of this layer pass one norm before the output projection, so that what a "
            "value writes depends on them all"
        )
    check_heads(recording, layer)
    gate = recording.rows("gate", layer, rows)
    if gate is None:
        return _value_lengths(recording, layer, head)
    values = values_of(recording, layer)  # [key head, row, head width]
    values = values[head * len(values) // recording.model.anatomy.heads].float()
    shape, width = _shape(recording, layer, head, values), values.shape[1]
    gates = gate[:, head * width : (head + 1) * width]  # [query, head width]
    return torch.cat(
        [
            torch.linalg.vector_norm((part[:, None] * values) @ shape, dim=-1)
            for part in torch.split(gates, GATED_CHUNK)
        ]
    )


def _value_lengths(recording: Recording, layer: int, head: int) -> Tensor:
    """Return ‖vⱼ W_O‖ of each key. [key]

    Each segment caches those of the head viewed last, so that a typed letter costs one row.
    """
    pieces: list[Tensor] = []
    values, shape, start = None, None, 0
    for segment, count in recording.parts:
        cached = segment.memo.get("value lengths")
        if cached is None or cached[0] != (layer, head) or len(cached[1]) < count:
            if values is None or shape is None:
                values = values_of(recording, layer)  # [key head, row, head width]
                values = values[head * len(values) // recording.model.anatomy.heads].float()
                shape = _shape(recording, layer, head, values)
            lengths = torch.linalg.vector_norm(values[start : start + count] @ shape, dim=-1)
            cached = segment.memo["value lengths"] = ((layer, head), lengths)
        pieces.append(cached[1][:count])
        start += count
    return torch.cat(pieces)


@torch.no_grad()
def _shape(recording: Recording, layer: int, head: int, values: Tensor) -> Tensor:
    """Return Rᵀ of W_Oᵀ = QR for one head: ‖v W_O‖ = ‖v Rᵀ‖, since Q preserves norms.

    W_O, without its bias, is found by calling the projection instead of reading its weights: they
    may be quantized, adapted, or on another device. `[head width, head width]`
    """
    project = recording.model.anatomy.layers[layer].attention_out
    if project is None:
        raise WrongValueError(f"layer {layer} has no output projection that was found")
    width = values.shape[1]
    unit_rows = values.new_zeros(width + 1, width * recording.model.anatomy.heads)
    unit_rows[:width, head * width : (head + 1) * width] = torch.eye(width, device=values.device)
    projected: Tensor = project(
        unit_rows.to(recording.model.dtype)
    ).float()  # the last row is the bias
    upper: Tensor = torch.linalg.qr((projected[:width] - projected[width]).cpu().T, mode="r").R
    return upper.T.to(values.device)


@torch.no_grad()
def rollout(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return A'ₗ … A'₁ A'₀ up to a layer. [query, key]

    A' = (mean over heads + I) / 2, with normalized rows. The product is computed from the last
    layer down, so that only these rows of it are held, and of each layer's pattern one head and a
    few queries at a time.

    Raises:
        ValueError: the prompt is too long, or a layer has no pattern.
    """
    length = rows.stop
    if len(recording) > LONGEST_ROLLOUT:
        raise WrongValueError(
            f"a rollout needs the patterns of all tokens in all layers: it is made of prompts of "
            f"up to {LONGEST_ROLLOUT} tokens, and this one has {len(recording)}"
        )
    product = _rollout_step(recording, layer, rows)[:, :length]
    for below in range(layer - 1, -1, -1):
        total = torch.zeros_like(product)
        for start in range(0, length, CHUNK):
            chunk = range(start, min(start + CHUNK, length))
            mixed = _rollout_step(recording, below, chunk)[:, :length].to(product.device)
            total += product[:, chunk.start : chunk.stop] @ mixed
        product = total
    whole = product.new_zeros(len(rows), len(recording))
    whole[:, :length] = product
    return whole


def _rollout_step(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return A' of these queries: the mean pattern plus the identity, normalized. [query, key]"""
    mixed = mean_pattern(recording, layer, rows)
    mixed[range(len(rows)), rows] += 1.0
    return mixed / mixed.sum(-1, keepdim=True)


def mean_pattern(recording: Recording, layer: int, rows: range) -> Tensor:
    """Return the mean pattern over a layer's heads, computed one head at a time. [query, key]"""
    heads = recording.model.anatomy.heads
    total = pattern(recording, layer, 0, rows)
    for head in range(1, heads):
        total = total + pattern(recording, layer, head, rows)
    return total / heads
