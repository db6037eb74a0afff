"""Attention: where does this head look?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.lenses.base import Lens, Run, block_labels

if TYPE_CHECKING:
    from llmscope.record.recording import Recording

CHUNK = 256
"""Queries whose whole rows are held at once while they are pooled."""


def compute(recording: Recording, focus: Focus, run: Run) -> Figure:
    """softmax(q kᵀ · scale + mask) of a layer. [query, key]; NaN for keys not yet there.

    Modes: `raw`, one head; `mean` and `max`, over the layer's heads, cell by cell. Rows of `max`
    do not sum to one. With a span, only the queries in it; pooled, the maximum of so many queries
    by so many keys.
    `extra`: layer, head (null for mean and max), heads, mode, special (of the tokens).
    """
    from llmscope.record.reduce import kept_pattern

    heads, length = recording.subject.anatomy.heads, len(recording)
    over = f"head {focus.head}" if focus.mode == "raw" else f"{focus.mode} of {heads} heads"
    title = f"Attention · layer {focus.layer} {over}"
    labels, special = recording.prompt.labels, recording.prompt.special
    if focus.pool > 1:
        values = _pooled(recording, focus, heads)
        names = block_labels(length, focus.pool)
        keys = Axis("key", names, step=focus.pool)
        queries = replace(keys, name="query")
        title += f" · max of {focus.pool}×{focus.pool} tokens"
        special = ()
    else:
        start, stop = focus.span or (0, length)
        rows = range(max(0, min(start, length - 1)), min(stop, length))
        if focus.span is None:
            which = (focus.layer, focus.mode, focus.head if focus.mode == "raw" else None)
            values = kept_pattern(
                recording, which, lambda some: _weights(recording, focus, heads, some)
            )
        else:
            values = _weights(recording, focus, heads, rows)
        values[np.triu_indices(len(rows), k=rows.start + 1, m=length)] = np.nan
        queries = Axis("query", labels[rows.start : rows.stop], start=rows.start)
        keys = Axis("key", labels)
    return Figure(
        lens="attention",
        title=title,
        kind="heatmap",
        axes=(queries, keys),
        values=values,
        unit="probability",
        extra={
            "layer": focus.layer,
            "head": focus.head if focus.mode == "raw" else None,
            "heads": heads,
            "mode": focus.mode,
            "special": special,
        },
    )


def _weights(recording: Recording, focus: Focus, heads: int, rows: range) -> NDArray[np.float32]:
    """One head's pattern, or all heads' reduced to one without holding them all. [query, key]"""
    from llmscope.record.derive import pattern

    if focus.mode == "raw":
        total = pattern(recording, focus.layer, focus.head, rows)
    else:
        total = pattern(recording, focus.layer, 0, rows)
        for head in range(1, heads):
            one = pattern(recording, focus.layer, head, rows)
            total = total + one if focus.mode == "mean" else total.maximum(one)
        total = total / heads if focus.mode == "mean" else total
    weights: NDArray[np.float32] = total.cpu().numpy().astype(np.float32)
    return weights


def _pooled(recording: Recording, focus: Focus, heads: int) -> NDArray[np.float32]:
    """The maximum of each block of queries by keys, a few queries at a time. [query, key]"""
    length, pool = len(recording), focus.pool
    blocks = -(-length // pool)
    values = np.full((blocks, blocks), np.nan, dtype=np.float32)
    chunk = max(1, CHUNK // pool) * pool
    edges = np.arange(0, length, pool)
    for start in range(0, length, chunk):
        rows = range(start, min(start + chunk, length))
        weights = _weights(recording, focus, heads, rows)
        by_key = np.maximum.reduceat(weights, edges, axis=1)
        by_block = np.maximum.reduceat(by_key, np.arange(0, len(rows), pool), axis=0)
        values[start // pool : start // pool + len(by_block)] = by_block
    values[np.triu_indices(blocks, k=1)] = np.nan
    return values


LENS = Lens(
    name="attention",
    question="Where does this head look?",
    compute=compute,
    needs=("patterns",),
    uses=("layer", "head", "mode", "span", "pool"),
    modes=("raw", "mean", "max"),
    help="""\
Each row is a token that looks (query), each column a token that is looked at (key). A cell is the \
share of the head's attention that goes there; a row sums to 1. Nothing is above the diagonal: a \
token cannot see what comes after it. The row under the cursor is read out below the picture.

Many heads park their attention on the first token when they have nothing to say; such a column \
is called a sink. [ and ] change the head, { and } the layer, a shows the mean or the maximum over \
the layer's heads (a maximum's rows do not sum to 1).

softmax(q kᵀ · scale + mask), from the queries and keys of this very pass, after rotation.""",
)
