"""Statistics computed once and kept with a recording's rows: norms, surprisal, entropy, rank.

A segment is only ever shared together with everything before it, so the statistics of one of its
rows hold in every recording that has that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from llmscope.record.capture.observed_attention import own_logits
from llmscope.record.capture.prefetch import (
    ACTIVATIONS,
    ROW_STATS,
    drop_logits,
    keep_logits,
    kept_logits,
)
from llmscope.record.capture.recording import Recording, Segment
from llmscope.record.capture.row_budget import BEFORE_RELEASE
from llmscope.record.derive.tensors import activations, logits, logits_after
from llmscope.record.derive.token_stats import float_array, predictions
from llmscope.record.fetch import Fetches, Fetching, fetched, on_cpu, without_fetches

CHUNK = 64
"""Number of rows whose logits are held at once: 64 MB in float32 for a vocabulary of 256,000."""

Floats = NDArray[np.float32]
Written = Literal["stream", "attention_write", "mlp_write"]
UNFINITE, FINITE = "first unfinite", "finite"
PATTERN = "pattern"
ACTIVITY, COSINES = ("activity",), ("cosines",)
EXPERT_ACTIVITY = ("activity of experts",)
SOME_LOGITS = "some logits"
"""Keys of the memos."""


def norms(recording: Recording, name: Written) -> Floats:
    """Return L2 norms over the width. [layer, row]; the stream has one more: after the last layer.

    NaN if a layer has no such part.
    """
    return _join(recording, ("norms", name), lambda segment: _norms(segment, name))


def activity(recording: Recording) -> Floats:
    """Return the L2 norm of each layer's MLP activations. [layer, row]

    It is recorded, and that of experts is derived from the router's choice.
    """
    values = _join(recording, ACTIVITY, _activity)
    layers = recording.model.anatomy.layers
    mixed = [
        at
        for at, layer in enumerate(layers)
        if layer.neurons is not None and not layer.neurons.away
    ]
    if not mixed:
        return values
    values = values.copy()
    of_experts = partial(_expert_activity, recording, mixed)
    values[mixed] = _join(recording, EXPERT_ACTIVITY, of_experts)
    for layer in {change.layer for change in recording.changes if change.site == "neurons"}:
        if layer in mixed:
            rows = activations(recording, layer).float()
            values[layer] = torch.linalg.vector_norm(rows, dim=-1).cpu().numpy()
    return values


def cosines(recording: Recording) -> Floats:
    """Return the cosine of each layer's input stream and the final stream. [layer + 1, row]"""
    return _join(recording, COSINES, _cosines)


def cached_pattern_rows(
    recording: Recording,
    key: object,
    rows: range,
    compute_rows: Callable[[range], Fetching[Floats]],
) -> Fetching[Floats]:
    """Return rows of a pattern; compute those that are not cached. [query, key]; 0 where unseen.

    Each segment caches its rows of the last pattern only. They do not change when the prompt is
    extended, so a typed letter costs one row.

    Args:
        recording: the recording.
        key: identifies the pattern; rows cached under another key are replaced.
        rows: the queries.
        compute_rows: computes the rows that are not cached. [row, key]
    """
    pattern = np.zeros((len(rows), len(recording)), dtype=np.float32)
    missing: list[tuple[Segment, range, range]] = []
    start = 0
    for segment, count in recording.parts:
        inside = range(max(rows.start, start), min(rows.stop, start + count))
        part_rows = range(inside.start - start, inside.stop - start)  # within the segment
        start += count
        if not len(inside):
            continue
        cached = _kept_rows(segment, key, part_rows)
        if cached is None:
            missing.append((segment, inside, part_rows))
        else:
            columns = cached[:, : inside.stop]  # a longer prompt's rows have more columns, all 0
            pattern[inside.start - rows.start : inside.stop - rows.start, : columns.shape[1]] = (
                columns
            )
    if not missing:
        return pattern
    first = missing[0][1].start
    computed = yield from compute_rows(range(first, missing[-1][1].stop))
    for segment, inside, part_rows in missing:
        part = computed[inside.start - first : inside.stop - first, : inside.stop]
        segment.memo[PATTERN] = (key, part_rows.start, part.copy())
        pattern[inside.start - rows.start : inside.stop - rows.start, : inside.stop] = part
    return pattern


def _kept_rows(segment: Segment, key: object, rows: range) -> Floats | None:
    """Return cached rows of a pattern, by their place in the segment; None if some are missing."""
    cached: tuple[object, int, Floats] | None = segment.memo.get(PATTERN)
    if cached is None or cached[0] != key:
        return None
    _, first, rows_cached = cached
    inside = first <= rows.start and rows.stop <= first + len(rows_cached)
    return rows_cached[rows.start - first : rows.stop - first] if inside else None


def first_unfinite(recording: Recording) -> int | None:
    """Return the first position with NaN or infinity in the last stream; None if all are finite."""
    return fetched(check_finite(recording))


def check_finite(recording: Recording) -> Fetching[int | None]:
    """Return the first position with NaN or infinity in the last stream; None if all are finite."""
    if UNFINITE in recording.memo:  # a figure needs it for each layer
        known: int | None = recording.memo[UNFINITE]
        return known
    lacking: list[Segment] = []
    for segment, _ in recording.parts:
        if FINITE not in segment.memo:
            segment.memo[FINITE] = torch.isfinite(segment.final).all(-1)  # [row]
        if isinstance(segment.memo[FINITE], Tensor):  # until it reaches the CPU
            lacking.append(segment)
    near = yield from on_cpu(*(segment.memo[FINITE] for segment in lacking))
    for segment, finite in zip(lacking, near, strict=True):
        segment.memo[FINITE] = finite.numpy()
    finite_rows = np.concatenate([part.memo[FINITE][:count] for part, count in recording.parts])
    rows = np.flatnonzero(~finite_rows)
    unfinite = recording.memo[UNFINITE] = int(rows[0]) if len(rows) else None
    return unfinite


@dataclass(frozen=True)
class RowStats:
    """Statistics of the model's prediction at each position; NaN if not (yet) known.

    Attributes:
        surprisal: −log₂ p(token | tokens before it), in bits. [row]; NaN for the first.
        rank: the token's rank by probability given the tokens before it, from 1. [row]
        entropy: the entropy of the prediction after this token, in bits. [row]
    """

    surprisal: Floats
    rank: Floats
    entropy: Floats


def row_stats(recording: Recording) -> Iterator[RowStats]:
    """Yield ever more complete statistics; see `fetch_row_stats`."""
    return without_fetches(fetch_row_stats(recording))


def fetch_row_stats(recording: Recording) -> Fetches[RowStats]:
    """Yield ever more complete statistics, newest rows first; the last one is complete.

    A row's logits cost as much as a good part of its forward pass, so each is computed once.
    """
    length = len(recording)
    columns = [_row_memo(segment) for segment, _ in recording.parts]
    owner = np.concatenate(
        [np.full(count, index) for index, (_, count) in enumerate(recording.parts)]
    )
    place = np.concatenate([np.arange(count) for _, count in recording.parts])

    def gather() -> RowStats:
        parts = [memo[:, :count] for memo, (_, count) in zip(columns, recording.parts, strict=True)]
        surprisal, rank, entropy = np.concatenate(parts, axis=1)
        return RowStats(surprisal, rank, entropy)

    known = gather()
    wanted = np.isnan(known.entropy)
    wanted[:-1] |= np.isnan(known.surprisal[1:])
    rows = np.flatnonzero(wanted)
    if not len(rows):
        drop_logits(recording)
        yield known
        return
    if not recording.model.readout_holds and _first_kept(recording) > rows[0]:
        keep_logits(recording, own_logits(recording))
    first_kept = _first_kept(recording)
    stop = int(rows[-1]) + 1
    while stop > rows[0]:
        start = max(stop - CHUNK, int(rows[0]))
        start = (
            first_kept if start < first_kept < stop else start
        )  # rows with kept logits are not read again
        following = recording.prompt.ids[start + 1 : stop + 1]
        stats = yield from predictions(_scores(recording, start, stop), following)
        surprisal, rank, entropy = stats
        for offset, row in enumerate(range(start, stop)):
            _keep(columns[owner[row]][2:, place[row]], entropy[offset])
            if row + 1 < length:
                following_memo = columns[owner[row + 1]][:2, place[row + 1]]
                _keep(following_memo, (surprisal[offset], rank[offset]))
        stop = start
        if stop <= max(first_kept, rows[0]):
            drop_logits(recording)
        yield gather()


def fetch_token_logits(recording: Recording, tokens: tuple[int, ...]) -> Fetching[Floats]:
    """Return the logits of some tokens after each token of the prompt. [token, row]

    Each segment keeps those of the tokens that were asked for last: they do not change when the
    prompt is extended, so a typed letter costs one row.
    """
    pieces: list[Floats] = []
    for segment, count in recording.parts:
        known: tuple[tuple[int, ...], Floats] | None = segment.memo.get(SOME_LOGITS)
        if known is None or known[0] != tokens:
            known = (tokens, np.full((len(tokens), len(segment)), np.nan, dtype=np.float32))
            segment.memo[SOME_LOGITS] = known
        pieces.append(known[1][:, :count])
    values = np.concatenate(pieces, axis=1)
    rows = np.flatnonzero(np.isnan(values).any(axis=0))
    if len(rows) and not recording.model.readout_holds and _first_kept(recording) > rows[0]:
        keep_logits(recording, own_logits(recording))
    first, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
    first_kept = _first_kept(recording)
    for start in range(first, end, CHUNK):
        stop = min(start + CHUNK, end)
        scores = [
            _scores(recording, *part)[:, list(tokens)]  # rows with kept logits are not read again
            for part in ((start, min(first_kept, stop)), (max(first_kept, start), stop))
            if part[0] < part[1]
        ]
        near = yield from on_cpu(*scores)
        values[:, start:stop] = np.concatenate([float_array(tensor) for tensor in near]).T
    start = 0
    for (_, count), piece in zip(recording.parts, pieces, strict=True):
        np.copyto(piece, values[:, start : start + count], where=np.isnan(piece))
        start += count
    return values


def forget_row_stats(recording: Recording) -> None:
    """Drop the cached statistics of the predictions."""
    for segment, _ in recording.parts:
        segment.memo.pop(ROW_STATS, None)


def _scores(recording: Recording, start: int, stop: int) -> Tensor:
    """Return the logits of these rows: the model's own if all are kept, as after one typed letter.

    `[row, token]`
    """
    every, first = kept_logits(recording), _first_kept(recording)
    if every is not None and start >= first:
        return every[start - first : stop - first].float()
    kept_rows = {len(recording) - 1} if recording.logits is not None else set()
    if recording.earlier is not None:
        kept_rows.add(recording.earlier[0])
    if kept_rows.issuperset(range(start, stop)):
        return torch.stack([logits_after(recording, row) for row in range(start, stop)])
    return logits(recording, start, stop)


def _first_kept(recording: Recording) -> int:
    """Return the first row from which on all logits are kept; the number of rows without any."""
    row_logits = kept_logits(recording)
    return len(recording) - (0 if row_logits is None else len(row_logits))


def _keep(memo: Floats, values: ArrayLike) -> None:
    """Fill in unknown values. Known ones are not changed, so that no recording ever changes."""
    if np.isnan(memo).all():
        memo[:] = values


def _row_memo(segment: Segment) -> Floats:
    """Return the cached statistics of a segment's rows. [surprisal | rank | entropy, row]"""
    empty = np.full((3, len(segment)), np.nan, dtype=np.float32)
    memo: Floats = segment.memo.setdefault(ROW_STATS, empty)
    return memo


def _join(
    recording: Recording, key: tuple[str, ...], derive: Callable[[Segment], Floats]
) -> Floats:
    """Return derived values of all rows, cached by segment. [layer, row]

    Args:
        recording: the recording.
        key: the memo's key.
        derive: derives the values of a segment.
    """
    pieces: list[Floats] = []
    for at, (segment, count) in enumerate(recording.parts):
        if key not in segment.memo and not segment.released:
            segment.memo[key] = derive(segment)
        if key in segment.memo:
            pieces.append(segment.memo[key][:, :count])
        else:
            pieces.append(derive(recording.with_rows(at)))
    return np.concatenate(pieces, axis=1)


def _activity(segment: Segment) -> Floats:
    return _stack([layer.activity for layer in segment.layers], len(segment))


def _expert_activity(recording: Recording, mixed: Sequence[int], segment: Segment) -> Floats:
    """Return the norms of the activations of experts, without edits. [layer, row]

    Args:
        mixed: the layers with experts whose neurons were found.
    """
    norms: list[Tensor | None] = []
    for layer in mixed:
        rows, neurons = segment.layers[layer], recording.model.anatomy.layers[layer].neurons
        entry, weights, chosen = rows.mlp_input_module, rows.routed, rows.chosen
        if neurons is None or entry is None or weights is None or chosen is None:
            norms.append(None)
        else:
            norms.append(neurons.activations(entry, weights, chosen).norm())
    return _stack(norms, len(segment))


def _cosines(segment: Segment) -> Floats:
    streams = [layer.stream for layer in segment.layers] + [segment.final]
    final = segment.final.float()
    rows: list[Tensor | None] = [
        torch.nn.functional.cosine_similarity(stream.to(final.device).float(), final, dim=-1)
        for stream in streams
    ]
    return _stack(rows, len(segment))


def _summarize(segment: Segment) -> None:
    """Derive what needs every row of every layer, and costs little, before the rows go."""
    for name in get_args(Written):
        segment.memo.setdefault(("norms", name), _norms(segment, name))
    segment.memo.setdefault(ACTIVITY, _activity(segment))
    segment.memo.setdefault(COSINES, _cosines(segment))
    for large in (ACTIVATIONS, PATTERN):
        segment.memo.pop(large, None)


BEFORE_RELEASE.append(_summarize)


@torch.no_grad()
def _norms(segment: Segment, name: Written) -> Floats:
    tensors = [getattr(layer, name) for layer in segment.layers]
    if name == "stream":
        tensors.append(segment.final)
    rows = [
        None if t is None else torch.linalg.vector_norm(t, dim=-1, dtype=torch.float32)
        for t in tensors
    ]
    return _stack(rows, len(segment))


def _stack(rows: list[Tensor | None], length: int) -> Floats:
    """Stack one row per layer, copied off the device in one transfer. [layer, row]"""
    present = next((row for row in rows if row is not None), None)
    if present is None:
        return np.full((len(rows), length), np.nan, dtype=np.float32)
    nothing = torch.full_like(present, torch.nan)
    same = [nothing if row is None else row.to(present.device) for row in rows]
    return float_array(torch.stack(same))
