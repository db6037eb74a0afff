"""Exact maps of layers that mix tokens without attention: `output_t = Σ_s w_ts value_s`.

Recurrences that are linear in their values have such weights, as signed numbers whose rows do not
sum to 1. They are computed for the heads and rows that are looked at, in float64, from what the
layer's own function received, and compared with what it gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llmscope.errors import WrongValueError
from llmscope.record.capture.mixer_calls import MixerCall
from llmscope.record.capture.recording import Recording

CELLS = 1 << 22
"""Most weights, or numbers of states, that are held at once."""
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
    return _weights(call, [head], rows)[0]


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
    for chunk in _chunks(call, heads, rows):
        weights = _weights(call, chunk, rows)  # [head, query, key]
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
    actual = _wide(call.output[at])  # [row, head, width]
    explained = actual.clone()
    for chunk in _chunks(call, heads, rows):
        values = _wide(call.value[: rows.stop, chunk]).transpose(0, 1)  # [head, row, width]
        mixed = (_weights(call, chunk, rows) @ values).transpose(0, 1)  # [row, head, width]
        if call.bias is not None:
            mixed = mixed + _wide(call.bias[chunk])[:, None]
        if call.gate is not None:
            mixed = mixed * _wide(call.gate[at, chunk])
        explained[:, chunk] = mixed
    return explained.flatten(1), actual.flatten(1)


def value_lengths(recording: Recording, layer: int, head: int) -> Tensor:
    """Return the norms of a head's values, before any gate, norm or projection. [key]"""
    values = _wide(call_of(recording, layer).value[:, head])  # [key, width]
    lengths: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return lengths


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device has no such numbers."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _chunks(call: MixerCall, heads: Sequence[int], rows: range) -> Iterator[list[int]]:
    """Yield the heads, as many at a time as are held at once."""
    state = 1 if call.key is None else call.key.shape[2]
    cost = max(rows.stop * max(len(rows), rows.stop if call.delta else 0), len(rows) * state, 1)
    size = max(1, CELLS // cost)
    for start in range(0, len(heads), size):
        yield list(heads[start : start + size])


def _weights(call: MixerCall, heads: list[int], rows: range) -> Tensor:
    """Return the maps of some heads. [head, query, key], of keys up to the last query"""
    count = rows.stop
    if call.kernel is not None:
        return _band(_wide(call.kernel[heads]), rows)
    if call.scores is not None:
        return _mean(call, heads, rows)
    query, key = (_of_heads(part, call.heads, heads, count) for part in (call.query, call.key))
    assert call.decay is not None
    decay = _wide(call.decay[:count, heads]).transpose(0, 1)  # [head, row, …]
    if call.rates is not None:
        decay = decay[..., None] * _wide(call.rates[heads])[:, None]
    strength = None
    if call.strength is not None:
        strength = _wide(call.strength[:count, heads]).T  # [head, row]
    if decay.dim() == 2:
        weights = _by_products(query, key, decay, strength, rows, delta=call.delta)
    else:
        weights = _by_steps(query, key, decay, strength, rows, delta=call.delta)
    if call.skip is not None:
        weights[:, range(len(rows)), rows] += _wide(call.skip[heads])[:, None]
    return weights


def _of_heads(part: Tensor | None, count: int, heads: list[int], rows: int) -> Tensor:
    """Return the queries or keys of some heads, of which several may share one.

    `[row, key head, state]` -> [head, row, state]
    """
    assert part is not None
    share = count // part.shape[1]
    return _wide(part[:rows, [head // share for head in heads]]).transpose(0, 1)


def _band(kernel: Tensor, rows: range) -> Tensor:
    """Return the map of a convolution, whose own token's weight is the last. [head, query, key]"""
    weights = kernel.new_zeros(len(kernel), len(rows), rows.stop)
    for index, row in enumerate(rows):
        count = min(kernel.shape[1], row + 1)
        weights[:, index, row + 1 - count : row + 1] = kernel[:, kernel.shape[1] - count :]
    return weights


def _mean(call: MixerCall, heads: list[int], rows: range) -> Tensor:
    """Return the map of a mean whose weights fade by distance. [head, query, key]"""
    assert call.scores is not None
    assert call.fading is not None
    assert call.first is not None
    scores = _wide(call.scores[: rows.stop, heads]).T  # [head, key]
    keys = torch.arange(rows.stop, device=scores.device)
    between = torch.arange(rows.start, rows.stop, device=scores.device)[:, None] - keys - 1
    logits = scores[:, None] - _wide(call.fading[heads])[:, None, None] * between
    logits[:, range(len(rows)), rows] = scores[:, rows] + _wide(call.first[heads])[:, None]
    return logits.masked_fill(between < -1, -torch.inf).softmax(-1)


def _by_products(
    query: Tensor,
    key: Tensor,
    decay: Tensor,
    strength: Tensor | None,
    rows: range,
    *,
    delta: bool,
) -> Tensor:
    """Return the maps where one number decays a whole state. [head, query, key]

    With A_ts = (q_t·k_s) e^(decays after s up to t): w = A b. With the delta rule each token's
    value loses what earlier ones left at its key, (I + L) u = b v with L_ts = b_t (k_t·k_s) e^…,
    and so w = A (I + L)⁻¹ b.
    """
    total = decay.cumsum(1)  # [head, row]
    at = slice(rows.start, rows.stop)
    weights = query[:, at] @ key.transpose(1, 2) * _left(total[:, at], total, rows, 0)
    if delta:
        assert strength is not None
        every = range(rows.stop)
        overlap = strength[..., None] * (key @ key.transpose(1, 2)) * _left(total, total, every, 1)
        weights = torch.linalg.solve_triangular(
            overlap, weights, upper=False, left=False, unitriangular=True
        )
    return weights if strength is None else weights * strength[:, None]


def _left(at: Tensor, total: Tensor, rows: range, apart: int) -> Tensor:
    """Return what is left at each row of each key at least `apart` tokens before it, else 0."""
    keys = torch.arange(total.shape[1], device=total.device)
    queries = torch.arange(rows.start, rows.stop, device=total.device)
    ahead = keys > queries[:, None] - apart  # [query, key]
    return (at[..., None] - total[:, None]).masked_fill(ahead, -torch.inf).exp()


def _by_steps(
    query: Tensor,
    key: Tensor,
    decay: Tensor,
    strength: Tensor | None,
    rows: range,
    *,
    delta: bool,
) -> Tensor:
    """Return the maps where each number of a state decays on its own. [head, query, key]

    Each query goes back token by token through what the state went through since.
    """
    weights = query.new_zeros(len(query), len(rows), rows.stop)
    read = query[:, rows.start : rows.stop].clone()  # [head, query, state]
    left = decay.exp()
    for token in range(rows.stop - 1, -1, -1):
        first = max(0, token - rows.start)  # the queries at and after this token
        at_key = read[:, first:] @ key[:, token, :, None]  # [head, query, 1]
        if strength is not None:
            at_key = at_key * strength[:, token, None, None]
        weights[:, first:, token] = at_key[..., 0]
        if delta:
            read[:, first:] -= at_key * key[:, token, None]
        read[:, first:] *= left[:, token, None]
    return weights
