"""Exact maps of layers that mix tokens without attention: `output_t = Σ_s w_ts value_s`.

Recurrences that are linear in their values have such weights, as signed numbers whose rows do not
sum to 1. They are computed for the heads and rows that are looked at, in float64, from what the
layer's own function received, and compared with what it gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.call_maps import call_weights, head_chunks, widen
from llmscope.record.capture.recording import Recording
from llmscope.record.knockouts import hidden_cells
from llmscope.record.mixer_calls import MixerCall

MOST_MAPS = 256
"""Most maps of which a mean or a maximum is made: Mamba has thousands of channels."""
NO_MAP = "this layer's recurrence was not recorded from the first token on"


def call_of(recording: Recording, layer: int) -> MixerCall:
    """Return what a layer's recurrence received and gave in the pass of a recording.

    Raises:
        ValueError: it was not recorded, or it has no map.
    """
    mixing = recording.mixing(layer)
    if mixing is None:
        raise WrongValueError(NO_MAP)
    call = mixing.read()
    flaw = "it goes on from the state of an earlier pass" if call.continued else call.flaw
    if flaw:
        raise WrongValueError(f"this layer has no map: {flaw}")
    if len(call) != len(recording):
        raise WrongValueError(f"this layer's recurrence ran {len(call)} rows")
    return call


@torch.no_grad()
def token_map(recording: Recording, layer: int, head: int, rows: range) -> Tensor:
    """Return the weights of one head. [query, key], of keys up to the last query, in float64

    Raises:
        ValueError: the layer has no map.
    """
    call = call_of(recording, layer)
    if not 0 <= head < call.heads:
        raise WrongValueError(f"this layer has {call.heads} maps, and no number {head}")
    return _read_weights(recording, layer, call, [head], rows)[0]


def chosen_maps(recording: Recording, layer: int) -> Sequence[int]:
    """Return the heads that stand for all of a layer: all, or as many channels spread over them."""
    count = call_of(recording, layer).heads
    return range(0, count, -(-count // MOST_MAPS))


def whole_map(recording: Recording, layer: int, head: int, rows: range) -> Tensor:
    """Return the weights as `token_map`, with zero for all later keys. [query, key]"""
    return _with_later_keys(token_map(recording, layer, head, rows), len(recording))


@torch.no_grad()
def reduced_maps(recording: Recording, layer: int, rows: range, *, largest: bool) -> Tensor:
    """Return the mean of a layer's maps, or of each weight the one of largest magnitude.

    [query, key], with zero for all later keys
    """
    call, heads = call_of(recording, layer), chosen_maps(recording, layer)
    total: Tensor | None = None
    for chunk in head_chunks(call, heads, rows):
        weights = _read_weights(recording, layer, call, chunk, rows)  # [head, query, key]
        if largest:
            piece = weights.gather(0, weights.abs().argmax(0, keepdim=True))[0]
            total = piece if total is None else piece.where(piece.abs() > total.abs(), total)
        else:
            piece = weights.sum(0)
            total = piece if total is None else total + piece
    assert total is not None
    return _with_later_keys(total if largest else total / len(heads), len(recording))


def _with_later_keys(weights: Tensor, count: int) -> Tensor:
    whole = weights.new_zeros(len(weights), count)
    whole[:, : weights.shape[1]] = weights
    return whole


@torch.no_grad()
def mixed_by_maps(
    recording: Recording, layer: int, heads: Sequence[int], rows: range
) -> tuple[Tensor, Tensor]:
    """Return the output of a layer, some heads as the maps explain it, and as it was computed.

    Errors are told against whole rows: what a single channel gives may be all but zero.

    Returns:
        Each [row, head · width], in float64.

    Raises:
        ValueError: the layer has no map.
    """
    call = call_of(recording, layer)
    at = slice(rows.start, rows.stop)
    actual = widen(call.output[at])  # [row, head, width]
    explained = actual.clone()
    for chunk in head_chunks(call, heads, rows):
        values = widen(call.value[: rows.stop, chunk]).transpose(0, 1)  # [head, row, width]
        weights = _read_weights(recording, layer, call, chunk, rows)
        mixed = (weights @ values).transpose(0, 1)  # [row, head, width]
        if call.bias is not None:
            mixed = mixed + widen(call.bias[chunk])[:, None]
        if call.gate is not None:
            mixed = mixed * widen(call.gate[at, chunk])
        explained[:, chunk] = mixed
    return explained.flatten(1), actual.flatten(1)


def value_lengths(recording: Recording, layer: int, head: int) -> Tensor:
    """Return the norms of a head's values, before any gate, norm or projection. [key]"""
    values = widen(call_of(recording, layer).value[:, head])  # [key, width]
    lengths: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return lengths


def _read_weights(
    recording: Recording, layer: int, call: MixerCall, heads: list[int], rows: range
) -> Tensor:
    """Return the maps of some heads, with zero where an edit takes away what is read.

    [head, query, key], of keys up to the last query
    """
    weights, knockouts = call_weights(call, heads, rows), recording.knockouts(layer)
    if not knockouts:
        return weights
    queries = torch.arange(rows.start, rows.stop, device=weights.device)
    return weights.masked_fill(hidden_cells(knockouts, heads, queries, rows.stop), 0.0)
