"""Alignment of two prompts' tokens: their longest common subsequence, compared by text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llmscope.support.text import shared_length

# How a label shows a byte that is not a complete character; see `Tokens.piece`.
_STRAY = re.compile(r"\\x[89a-f][0-9a-f]")

Aligned = tuple[tuple[int, int], ...]


def align(first: Sequence[str], second: Sequence[str]) -> Aligned:
    """Return the positions of a longest common subsequence, as pairs in ascending order.

    Among equally long ones, choose one that contains the whole common prefix and suffix: tokens of
    the common prefix have the same history in both prompts, and the common suffix is mostly the
    question asked. Swapping the arguments only swaps the pairs.

    Args:
        first, second: token labels of the two prompts.
    """
    return _align(tuple(first), tuple(second))


@lru_cache(maxsize=4)
def _align(first: tuple[str, ...], second: tuple[str, ...]) -> Aligned:
    labels, other = _whole(first), _whole(second)
    numbers = {key: number for number, key in enumerate(sorted({*labels, *other}))}
    ids, others = tuple(map(numbers.__getitem__, labels)), tuple(map(numbers.__getitem__, other))
    if (len(ids), ids) > (len(others), others):  # one order, so that ties break the same way
        return tuple((a, b) for b, a in _common(others, ids))
    return _common(ids, others)


def _whole(labels: Sequence[str]) -> list[tuple[str, int]]:
    """Return one key per token; tokens with equal keys match.

    The key is the token's text. For parts of a character, it is the text of the whole run of parts,
    up to a space, and the token's index in the run: the first byte of a letter is shared by half
    its alphabet and means nothing alone.
    """
    keys: list[tuple[str, int]] = []
    start = 0
    while start < len(labels):
        stop = start + 1
        while stop < len(labels) and _goes_on(labels, start, stop):
            stop += 1
        keys += [("".join(labels[start:stop]), place) for place in range(stop - start)]
        start = stop
    return keys


def _goes_on(labels: Sequence[str], start: int, place: int) -> bool:
    both = _STRAY.search(labels[start]) and _STRAY.search(labels[place])
    return bool(both) and not labels[place].startswith(" ")


def _common(ids: tuple[int, ...], other: tuple[int, ...]) -> Aligned:
    head = shared_length(ids, other)
    # The common prefix and suffix are part of some longest common subsequence.
    tail = shared_length(ids[head:][::-1], other[head:][::-1])
    middle = _longest(ids[head : len(ids) - tail], other[head : len(other) - tail])
    return (
        *((place, place) for place in range(head)),
        *((head + a, head + b) for a, b in middle),
        *((len(ids) - back, len(other) - back) for back in range(tail, 0, -1)),
    )


def _longest(ids: tuple[int, ...], other: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return a longest common subsequence by dynamic programming, keeping one bit per cell.

    L[i, j] = max(L[i - 1, j], L[i, j - 1], L[i - 1, j - 1] + (oneᵢ = otherⱼ))
    """
    columns = np.array(other, dtype=np.int64)
    row = np.zeros(len(other) + 1, dtype=np.int64)
    above: list[NDArray[np.uint8]] = []  # whether a cell equals the one above it
    for number in ids:
        best = row.copy()
        best[1:] = np.maximum(best[1:], row[:-1] + (columns == number))
        best = np.maximum.accumulate(best)
        above.append(np.packbits(best == row))
        row = best
    pairs: list[tuple[int, int]] = []
    i, j = len(ids), len(other)
    while i and j:
        if ids[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif above[i - 1][j >> 3] >> (7 - (j & 7)) & 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
