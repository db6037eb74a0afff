"""Exact maps of one call of a recurrence: `output_t = Σ_s w_ts value_s`, in float64.

Recurrences that are linear in their values have such weights, as signed numbers whose rows do not
sum to 1. They are computed for the heads and rows that are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llmscope.record.mixer_calls import MixerCall

CELLS = 1 << 22
"""Most weights, or numbers of states, that are held at once."""
BLOCK = 64
"""Tokens whose values the delta rule is solved for together: its cost grows with its square."""


def widen(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device has no such numbers."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def head_chunks(call: MixerCall, heads: Sequence[int], rows: range) -> Iterator[list[int]]:
    """Yield the heads, as many at a time as are held at once."""
    state = 1 if call.key is None else call.key.shape[2]
    cost = max(rows.stop * max(len(rows), BLOCK if call.delta else 0), len(rows) * state, 1)
    size = max(1, CELLS // cost)
    for start in range(0, len(heads), size):
        yield list(heads[start : start + size])


def call_weights(call: MixerCall, heads: list[int], rows: range) -> Tensor:
    """Return the maps of some heads. [head, query, key], of keys up to the last query"""
    count = rows.stop
    if call.kernel is not None:
        return _band(widen(call.kernel[heads]), rows)
    if call.scores is not None:
        return _mean(call, heads, rows)
    query, key = (_of_heads(part, call.heads, heads, count) for part in (call.query, call.key))
    assert call.decay is not None
    decay = widen(call.decay[:count, heads]).transpose(0, 1)  # [head, row, …]
    if call.rates is not None:
        decay = decay[..., None] * widen(call.rates[heads])[:, None]
    strength = None
    if call.strength is not None:
        strength = widen(call.strength[:count, heads]).T  # [head, row]
    if decay.dim() == 2:
        weights = _by_products(query, key, decay, strength, rows, delta=call.delta)
    else:
        weights = _by_steps(query, key, decay, strength, rows, delta=call.delta)
    if call.skip is not None:
        weights[:, range(len(rows)), rows] += widen(call.skip[heads])[:, None]
    return weights


def _of_heads(part: Tensor | None, count: int, heads: list[int], rows: int) -> Tensor:
    """Return the queries or keys of some heads, of which several may share one.

    `[row, key head, state]` -> [head, row, state]
    """
    assert part is not None
    share = count // part.shape[1]
    return widen(part[:rows, [head // share for head in heads]]).transpose(0, 1)


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
    scores = widen(call.scores[: rows.stop, heads]).T  # [head, key]
    keys = torch.arange(rows.stop, device=scores.device)
    between = torch.arange(rows.start, rows.stop, device=scores.device)[:, None] - keys - 1
    logits = scores[:, None] - widen(call.fading[heads])[:, None, None] * between
    logits[:, range(len(rows)), rows] = scores[:, rows] + widen(call.first[heads])[:, None]
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
    and so w = A (I + L)⁻¹ b. It is solved block by block, from the last keys to the first: behind a
    block, each query reads q_t e^… − Σ_s w_ts e^… k_s.
    """
    total = decay.cumsum(1)  # [head, row]
    if not delta:
        at = slice(rows.start, rows.stop)
        weights = query[:, at] @ key.transpose(1, 2) * _left(total[:, at], total, rows, 0)
        return weights if strength is None else weights * strength[:, None]
    assert strength is not None
    weights = query.new_zeros(len(query), len(rows), rows.stop)
    read = query[:, rows.start : rows.stop].clone()  # [head, query, state]
    for start in reversed(range(0, rows.stop, BLOCK)):
        stop = min(start + BLOCK, rows.stop)
        block = slice(start, stop)
        first = max(0, start - rows.start)  # the queries at and after this block
        inside = range(rows.start + first - start, rows.stop - start)  # places from its first key
        queries = torch.arange(rows.start + first, rows.stop, device=query.device)
        at_query = total[:, queries.clamp(max=stop - 1)]  # [head, query]
        at_key, keys = total[:, block], key[:, block]
        products = read[:, first:] @ keys.transpose(1, 2) * _left(at_query, at_key, inside, 0)
        overlap = keys @ keys.transpose(1, 2) * _left(at_key, at_key, range(stop - start), 1)
        block_weights = torch.linalg.solve_triangular(
            strength[:, block, None] * overlap,
            products,
            upper=False,
            left=False,
            unitriangular=True,
        )
        block_weights = block_weights * strength[:, None, block]
        weights[:, first:, block] = block_weights
        before = (total[:, start] - decay[:, start])[:, None]  # [head, 1]
        erased = (block_weights * (at_key - before).exp()[:, None]) @ keys
        read[:, first:] = read[:, first:] * (at_query - before).exp()[..., None] - erased
    return weights


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
