"""Contrast of two prompts: each shared token's streams, words and attention in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmscope.errors import option
from llmscope.models.loaded_model import LoadedModel
from llmscope.record.capture.recording import Prompt, Recording
from llmscope.record.compare.alignment import align
from llmscope.record.compare.pair import Floats, Pair, Unpaired
from llmscope.record.derive.patterns import sinks_of
from llmscope.record.derive.tensors import logits, pattern
from llmscope.support.text import shared_length

NOTHING = 1e-5
"""A stream that shrinks below this share of its norm once the mean is subtracted is rounding."""


def paired(
    recording: Recording, ids: Sequence[int] | None, other: Callable[[Prompt], Recording]
) -> Pair:
    """Align a recording with the recording of another prompt, B.

    Args:
        recording: the recording of prompt A.
        ids: token ids of prompt B; None: no prompt B.
        other: returns the unedited recording of a prompt.

    Raises:
        Unpaired: B is missing, or shares no token with A except special tokens and whitespace.
        ValueError: a token id is out of the vocabulary.
    """
    if not ids:
        raise Unpaired(
            f"there is no prompt B to compare this prompt with: give one by "
            f"{option('versus-prompt')}, or w on the screen"
        )
    prompt, own_prompt = prompt_of(recording.model, ids), recording.prompt
    aligned = align(own_prompt.labels, prompt.labels)
    if all(own_prompt.special[place] or own_prompt.labels[place].isspace() for place, _ in aligned):
        raise Unpaired(
            "the two prompts have no token in common: nothing of one can be held against the "
            "same thing in the other, such as one word in two sentences"
        )
    apart = recording.changes or recording.model.looks_ahead
    same = 0 if apart else shared_length(own_prompt.ids, prompt.ids)
    # The recording may be cached from a caller that did not mark the special tokens.
    theirs = replace(other(prompt), prompt=prompt)
    if same == len(recording) == len(prompt):
        theirs = recording
    return Pair(recording, theirs, aligned, same)


def prompt_of(model: LoadedModel, ids: Sequence[int]) -> Prompt:
    """Return prompt B with its labels and its special tokens marked.

    Raises:
        ValueError: a token id is out of the vocabulary.
    """
    model.anatomy.check_tokens(ids)
    known = model.tokens.special_ids if model.tokens else frozenset()
    labels = tuple(map(model.label, ids))
    return Prompt(tuple(ids), labels, tuple(token in known for token in ids))


@torch.no_grad()
def cosines(pair: Pair, *, centred: bool) -> tuple[Floats, Floats]:
    """Return the cosine of each aligned token's two streams, after each layer; embedding first.

    Args:
        pair: the two prompts.
        centred: first subtract the mean of a layer's streams over the tokens of both prompts. The
            first token and special tokens are left out of the mean: their streams are often
            hundreds of times as large and would dominate it.

    Returns:
        `[layer + 1, position in A]`, NaN where a token is not aligned or its centred stream is
        only rounding; and a baseline for each layer, the mean cosine of all pairs of different
        tokens of both prompts, without the first and special tokens. `[layer + 1]`, NaN without
        such a pair.
    """
    layers = pair.a.layers + 1
    values = np.full((layers, len(pair.a)), np.nan, dtype=np.float32)
    baseline = np.full(layers, np.nan, dtype=np.float32)
    here, there = (list(side) for side in zip(*pair.aligned, strict=True))
    telling = [torch.from_numpy(~sinks_of(recording)) for recording in pair.both]
    ids = np.array(
        [
            token
            for recording, flags in zip(pair.both, telling, strict=True)
            for token, tells in zip(recording.prompt.ids, flags.tolist(), strict=True)
            if tells
        ],
        dtype=np.int64,
    )
    for layer in range(layers):
        streams = [_stream(recording, layer) for recording in pair.both]
        pool = torch.cat([s[flags.to(s.device)] for s, flags in zip(streams, telling, strict=True)])
        mean = pool.mean(0) if centred and len(pool) else torch.zeros_like(streams[0][0])
        units, other = (_unit(stream, mean) for stream in streams)
        values[layer, here] = (units[here] * other[there]).sum(-1).cpu().numpy()
        baseline[layer] = _between(_unit(pool, mean), ids)
    return values, baseline


def _stream(recording: Recording, layer: int) -> Tensor:
    stream = recording.rows("stream", layer)
    assert stream is not None
    return stream.float()


def _unit(streams: Tensor, mean: Tensor) -> Tensor:
    """Subtract the mean and scale to length 1; NaN where only rounding is left. `[row, width]`"""
    left = streams - mean
    length = torch.linalg.vector_norm(left, dim=-1, keepdim=True)
    whole = torch.linalg.vector_norm(streams, dim=-1, keepdim=True)
    return torch.where(length > NOTHING * whole, left / length, torch.nan)


def _between(units: Tensor, ids: NDArray[np.int64]) -> float:
    """Return the mean of u · v over all pairs with different ids, from sums, forming no pair."""
    left = ~units.isnan().any(-1)
    _, groups = np.unique(ids[left.cpu().numpy()], return_inverse=True)
    counts = np.bincount(groups)
    pairs = int(counts.sum() ** 2 - (counts**2).sum())
    if not pairs:
        return float("nan")
    sums = units.new_zeros(len(counts), units.shape[1])
    sums.index_add_(0, torch.from_numpy(groups).to(units.device), units[left])
    return float(sums.sum(0).square().sum() - sums.square().sum()) / pairs


@torch.no_grad()
def word_logits(
    pair: Pair, position: int, there: int, words: tuple[Sequence[int], Sequence[int]]
) -> Floats:
    """Return the mean logit of `words[0]` minus that of `words[1]`, in the logit lens.

    After each layer, the embedding first. `[A | B, layer + 1]`

    Raises:
        ValueError: the model has no unembedding that was found.
    """
    readout = pair.a.model.anatomy.require_readout()
    differences: list[Floats] = []
    for recording, place in zip(pair.both, (position, there), strict=True):
        if differences and position < pair.same:
            differences.append(differences[0])
            break
        row_range = range(place, place + 1)
        rows = [recording.rows("stream", layer, row_range) for layer in range(recording.layers + 1)]
        last = recording.final_rows(place, place + 1)
        streams = torch.cat([row.to(last.device) for row in rows if row is not None])
        scores = readout(streams).float()  # [layer + 1, token]
        if recording.changes:  # an edit may freeze the final norm
            scores[-1] = logits(recording, place, place + 1)[0]
        means = [scores[:, list(ids)].mean(-1) for ids in words]
        differences.append((means[0] - means[1]).cpu().numpy())
    return np.stack(differences)


def cues(pair: Pair, position: int, there: int, layer: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return each head's largest attention weight on a token that only its own prompt has.

    Args:
        pair: the two prompts.
        position, there: the querying token's position in A and in B.
        layer: the layer of the heads.

    Returns:
        The largest weight on such a token, the first token and special tokens left out; 0 if no
        such token comes before the query. And that token's position, or -1. Both `[A | B, head]`.
    """
    heads = pair.a.model.anatomy.heads
    weights = np.zeros((2, heads), dtype=np.float32)
    places = np.full((2, heads), -1, dtype=np.int64)
    queries = (position, there)
    for which, (recording, query) in enumerate(zip(pair.both, queries, strict=True)):
        resting = sinks_of(recording)
        seen = [at for at in pair.alone[which] if at < query and not resting[at]]
        if seen:
            row = pattern(recording, layer, rows=range(query, query + 1))[:, 0]  # [head, key]
            looks = row[:, seen].cpu().numpy()
            best = looks.argmax(-1)
            weights[which] = looks[np.arange(heads), best]
            places[which] = np.array(seen)[best]
    return weights, places
