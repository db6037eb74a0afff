"""The lens `attention`: the attention pattern of a head, or of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, block_labels
from llmscope.lenses.options import HEAD, LAYER, SPAN, LensOption
from llmscope.support.numbers import share
from llmscope.support.text import quoted_token

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Recording
    from llmscope.record.fetch import Fetch, Fetching

CHUNK = 256
"""Number of queries whose full rows are held at once during pooling."""

POOL = LensOption(
    *("pool", "integer", 1, "Show this many tokens as one, by their maximum."), least=1
)
MOST = 1 << 24
"""Maximum cells of a figure of all heads: a larger one is pooled."""

SINGLE = ("raw", "value-weighted", "no-sink")
"""The modes that show one head."""


def compute(recording: Recording, focus: Focus, run: Run) -> Iterator[Fetch | Figure]:
    """Compute softmax(q kᵀ · scale + mask) of a layer. [query, key]; NaN for future keys.

    Modes of one head: `raw`; `value-weighted`: ‖αᵢⱼ vⱼ W_O‖, the norm of the head's output at i
    that comes from j, with the gate of i where the model has one, without the projection's bias
    and before a norm or a scale that follows it; its unit is "norm"; `no-sink`: without the keys
    that are the first token or special tokens (NaN), the rest of each row scaled to a sum of 1.
    Over the layer's heads, cell by cell: `mean`; `max`, whose rows do not sum to 1; and `all`, the
    patterns of all heads [head, query, key]. Over the layers from the first to this one: `rollout`,
    the product of (mean over heads + I) / 2, each row scaled to a sum of 1; refused above 1024
    tokens.

    With a span, only the queries in it; with a pool, the maximum of each block of pool × pool
    cells. All heads of a long prompt are always pooled, so that there are at most 2²⁴ cells.
    `extra`: layer, head (null for several), heads, mode, special (whether each token is special).
    """
    length, heads = len(recording), recording.model.anatomy.heads
    rows, pool = _extent(focus, length, heads)
    title = _title(focus, heads)
    try:
        values = yield from _values(recording, focus, rows, pool)
    except ValueError as finding:
        yield Figure.refused("attention", title, str(finding))
        return
    labels, special = recording.prompt.labels, recording.prompt.special
    queries, keys = Axis("query", labels[rows.start : rows.stop], rows.start), Axis("key", labels)
    if pool > 1:
        names, special = block_labels(length, pool), ()
        first = rows.start // pool
        queries = Axis("query", names[first : first + values.shape[-2]], rows.start, pool)
        keys = Axis("key", names, step=pool)
        title += f" · max of {pool}×{pool} tokens"
    several = (Axis("head", tuple(map(str, range(heads)))),) if focus.mode == "all" else ()
    yield Figure(
        lens="attention",
        title=title,
        kind="heatmap",
        axes=(*several, queries, keys),
        values=values,
        unit="norm" if focus.mode == "value-weighted" else "probability",
        extra={
            "layer": focus.layer,
            "head": focus.head if focus.mode in SINGLE else None,
            "heads": heads,
            "mode": focus.mode,
            "special": special,
        },
    )


def _title(focus: Focus, heads: int) -> str:
    if focus.mode == "rollout":
        return f"Attention rollout · layers 0 to {focus.layer}, mean of {heads} heads"
    title = f"Attention · layer {focus.layer} "
    if focus.mode == "all":
        return f"{title}· all {heads} heads"
    if focus.mode not in SINGLE:
        return f"{title}{focus.mode} of {heads} heads"
    how = {"value-weighted": " · weighted by values", "no-sink": " · no first and special tokens"}
    return f"{title}head {focus.head}{how.get(focus.mode, '')}"


def _extent(focus: Focus, length: int, heads: int) -> tuple[range, int]:
    """Return the queries to show, and the number of tokens that are pooled into one."""
    start, stop = focus.span or (0, length)
    start, stop = max(0, min(start, length - 1)), min(stop, length)
    pool = focus.pool
    if pool > 1:
        start, stop = 0, length
    if focus.mode == "all":
        while heads * -(-(stop - start) // pool) * -(-length // pool) > MOST:
            pool *= 2
    return range(start // pool * pool, stop), pool


def _values(
    recording: Recording, focus: Focus, rows: range, pool: int
) -> Fetching[NDArray[np.float32]]:
    """Return the cells of a figure. [query, key], or [head, query, key]"""
    from llmscope.record.derive.row_stats import kept_pattern

    length = len(recording)
    if focus.mode == "all":
        heads = range(recording.model.anatomy.heads)
        every = []
        for head in heads:  # one by one: all at once may not fit on the device
            alone = replace(focus, mode="raw", head=head, span=(0, length))
            every.append((yield from _values(recording, alone, rows, pool)))
        return np.stack(every)
    if pool > 1:
        values = yield from _pooled(recording, focus, rows, pool)
    else:
        which = (focus.layer, focus.mode, focus.head if focus.mode in SINGLE else None)
        weigh = partial(_weights, recording, focus)
        values = yield from kept_pattern(recording, which, rows, weigh)
    queries = rows.start // pool + np.arange(len(values))
    values[np.arange(values.shape[1]) > queries[:, None]] = np.nan  # keys after the query
    return values


def _weights(recording: Recording, focus: Focus, rows: range) -> Fetching[NDArray[np.float32]]:
    """Return rows of one head's pattern, or of all heads' reduced one by one. [query, key]"""
    from llmscope.record.derive import patterns
    from llmscope.record.derive.tensors import pattern
    from llmscope.record.fetch import on_cpu

    if focus.mode == "rollout":
        total = patterns.rollout(recording, focus.layer, rows)
    elif focus.mode == "mean":
        total = patterns.mean_pattern(recording, focus.layer, rows)
    elif focus.mode == "max":
        total = pattern(recording, focus.layer, 0, rows)
        for head in range(1, recording.model.anatomy.heads):
            total = total.maximum(pattern(recording, focus.layer, head, rows))
    else:
        total = pattern(recording, focus.layer, focus.head, rows)
    if focus.mode == "value-weighted":
        total = total * patterns.value_lengths(recording, focus.layer, focus.head, rows)
    (near,) = yield from on_cpu(total)
    weights: NDArray[np.float32] = near.numpy().astype(np.float32)
    if focus.mode == "no-sink":
        weights = patterns.without(weights, patterns.sinks_of(recording))
    return weights


def _pooled(
    recording: Recording, focus: Focus, rows: range, pool: int
) -> Fetching[NDArray[np.float32]]:
    """Return the maximum of each block of queries and keys, in chunks of queries. [query, key]"""
    length = len(recording)
    edges = np.arange(0, length, pool)
    values = np.full((-(-len(rows) // pool), len(edges)), np.nan, dtype=np.float32)
    # A rollout costs as much for a few rows as for all, and is never long.
    chunk = len(rows) if focus.mode == "rollout" else max(1, CHUNK // pool) * pool
    for start in range(rows.start, rows.stop, chunk):
        chunk_rows = range(start, min(start + chunk, rows.stop))
        weights = yield from _weights(recording, focus, chunk_rows)
        by_key = np.fmax.reduceat(weights, edges, axis=1)
        by_block = np.fmax.reduceat(by_key, np.arange(0, len(chunk_rows), pool), axis=0)
        first = (start - rows.start) // pool
        values[first : first + len(by_block)] = by_block
    return values


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield what the token looks at most."""
    layer, head = figure.extra.get("layer", focus.layer), figure.extra.get("head")
    if layer != focus.layer or head not in (None, focus.head) or figure.unit != "probability":
        return
    *heads, queries, keys = figure.axes
    index = queries.index(focus.position)
    if index is None or queries.step > 1 or keys.step > 1:
        return
    shares = figure.values[..., index, :].mean(0) if heads else figure.values[index]  # [key]
    known = np.flatnonzero(np.isfinite(shares))
    if not len(known):
        return
    key = int(known[shares[known].argmax()])
    mode = figure.extra.get("mode", "mean")
    who = "the rollout" if mode == "rollout" else f"{'mean' if heads else mode} of heads"
    who = who if head is None else f"head {head}{' beside the sink' * (mode == 'no-sink')}"
    yield f"{who} looks most at {quoted_token(keys.labels[key])} ({share(float(shares[key]))})"


LENS = Lens(
    name="attention",
    question="Where does this head look?",
    compute=compute,
    fetches=("raw", "value-weighted", "no-sink", "mean", "max"),
    needs=("patterns",),
    options=(LAYER, HEAD, SPAN, POOL),
    modes=("raw", "value-weighted", "no-sink", "mean", "max", "all", "rollout"),
    only_in={"head": SINGLE},
    axes={"all": ("head", "query", "key"), "": ("query", "key")},
    columns=(
        key("layer", "layer, from 0", "layer"),
        key("head", "head, from 0", "head", SINGLE),
        number(
            "weight",
            "share of the query's attention",
            unit="probability",
            modes=("raw", "no-sink", "mean", "max", "all", "rollout"),
        ),
        number(
            "weight",
            "length of what the head would write if it saw that token alone",
            unit="norm",
            modes=("value-weighted",),
        ),
    ),
    through=("rollout",),
    describe=describe_cursor,
    help="""\
Each row is a token that looks (query), each column a token that is looked at (key). A cell is the \
share of the head's attention that goes there; a row sums to 1. Nothing is above the diagonal: a \
token cannot see what comes after it. The row under the cursor is read out below the picture.

Many heads park their attention on the first token when they have nothing to say; such a column \
is called a sink. `no-sink` leaves the first and the special tokens out and scales what is left of \
each row to a sum of 1, however little that was: look at `raw` to see how much. `value-weighted` \
multiplies each share by the length of what the head would write if it saw that token alone. A \
sink's values are often nearly 0, and its column goes dark: attention that moves nothing. It shows \
the length only, and writes may still point against each other.

The modes `mean`, `max` and `all` show the layer's heads together: a maximum's rows do not sum to \
1; `all` draws every head small, by its number. `rollout` follows attention from the first layer \
to this one, as if each token were half itself and half what it looks at, on the mean of the \
heads: where what stands here may have come from. It knows nothing of values, MLPs or what heads \
do, and treats all heads alike. [ and ] change the head, { and } the layer, a the mode.""",
    shows={
        "raw": "share of the query's attention that goes to each key, of one head",
        "value-weighted": (
            "each share times the length of what the head would write of that token alone"
        ),
        "no-sink": "the shares without the first and the special tokens, rows scaled to a sum of 1",
        "mean": "the mean of the layer's heads",
        "max": "the maximum over the layer's heads",
        "all": "every head of the layer, each small",
        "rollout": "attention followed from the first layer to this one, on the mean of the heads",
    },
    formula="""\
α = softmax(q kᵀ · scale + mask), from the queries and keys of this very pass, after rotation
value-weighted: ‖αᵢⱼ vⱼ W_O‖
rollout: A'ₗ … A'₁ A'₀ with A' = (A + I) / 2, rows scaled to a sum of 1""",
    sources="""\
Kobayashi et al. 2020, "Attention is Not Only a Weight"; Abnar & Zuidema 2020, "Quantifying \
Attention Flow", for the rollout.""",
    establishes="""\
from which tokens this head takes its values at each token, and in what shares, in this pass.""",
    not_established="""\
that the answer needs what it looks at, or what the head takes from there: a share says nothing of \
the values, and heads rest on a token that they do not use.""",
    next_check="""\
`value-weighted` tells whether the head writes anything of that token; the lens ablation, or the \
edit `zero head LAYER.HEAD`, whether the answer needs the head.""",
)
