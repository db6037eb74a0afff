"""The lens `attention`: the attention pattern of a head, or of several.

A layer that mixes its tokens by a recurrence or a convolution has an exact map in its place: the
weights by which the values of earlier tokens make up what it gives at each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmscope.figure import SIGNED_WEIGHT, Axis, Figure, Focus
from llmscope.figure.tables import key, number
from llmscope.lenses.base import Lens, Run, block_labels
from llmscope.lenses.options import HEAD, LAYER, SPAN, LensOption
from llmscope.support.numbers import amount, share
from llmscope.support.text import quoted_token

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.recurrences import Recurrence
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

    Of a layer without attention, the map of one head or channel in its place: signed weights w with
    output_t = Σ w_ts v_s before the layer's gate, norm and projection. Their unit is "signed
    weight", and `extra` names the `rule`. There, `value-weighted` is |w_ts| ‖v_s‖, `max` has the
    weight of largest magnitude, and of more than 256 maps that many spread over all are taken
    together; the modes no-sink and rollout are refused.

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
    `extra`: layer, head (null for several), heads, mode, special (whether each token is special),
    and where edits block reading in all heads that are shown, `blocked`: [query, first key, last].
    """
    length, mapped = len(recording), recording.model.anatomy.layers[focus.layer].mapped
    heads = recording.model.anatomy.heads_at(focus.layer)
    rows, pool = _extent(focus, length, heads)
    title = _title(focus, heads) if mapped is None else _map_title(focus, mapped)
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
        title += f" · {'max' if mapped is None else 'largest'} of {pool}×{pool} tokens"
    several: tuple[Axis, ...] = ()
    if focus.mode == "all":
        names = tuple(map(str, _heads(recording, focus.layer)))
        several = (Axis("head", names),)
    unit = "probability" if mapped is None else SIGNED_WEIGHT
    yield Figure(
        lens="attention",
        title=title,
        kind="heatmap",
        axes=(*several, queries, keys),
        values=values,
        unit="norm" if focus.mode == "value-weighted" else unit,
        extra={
            "layer": focus.layer,
            "head": focus.head if focus.mode in SINGLE else None,
            "heads": heads,
            "mode": focus.mode,
            "special": special,
            **({} if mapped is None else {"rule": mapped.rule.name, "of": mapped.rule.unit}),
            **_blocked_pairs(recording, focus, rows),
        },
    )


def _blocked_pairs(recording: Recording, focus: Focus, rows: range) -> dict[str, list[list[int]]]:
    """Return what edits let no query read in the heads that are shown: query, first and last key.

    Empty if there is no such edit in the layer.
    """
    heads = (None, focus.head) if focus.mode in SINGLE else (None,)
    knockouts = [each for each in recording.knockouts(focus.layer) if each.head in heads]
    if not knockouts or focus.mode == "rollout":
        return {}
    ranges = []
    for knockout in knockouts:
        for query in sorted(set(rows) & set(knockout.rows)):
            last = min(knockout.keys.stop - 1, query if knockout.itself else query - 1)
            if last >= knockout.keys.start:
                ranges.append([query, knockout.keys.start, last])
    return {"blocked": ranges}


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


def _map_title(focus: Focus, mapped: Recurrence) -> str:
    """Return a title that says whose map it is: no softmax has made it."""
    from llmscope.record.derive.token_maps import MOST_MAPS

    rule, unit, count = mapped.rule, mapped.rule.unit, mapped.count
    title = f"Map of the {rule.name} · layer {focus.layer} "
    several = f"{count} {unit}s" if count <= MOST_MAPS else f"{MOST_MAPS} of {count} {unit}s"
    if focus.mode == "all":
        return f"{title}· {'all ' * (count <= MOST_MAPS)}{several}"
    if focus.mode not in SINGLE:
        return f"{title}{focus.mode} of {several}"
    how = {"value-weighted": " · weighted by values"}
    return f"{title}{unit} {focus.head}{how.get(focus.mode, '')}"


def _heads(recording: Recording, layer: int) -> Sequence[int]:
    """Return the heads that stand for all of a layer."""
    from llmscope.record.derive.token_maps import chosen_maps

    if recording.model.anatomy.layers[layer].mapped is not None:
        return chosen_maps(recording, layer)
    return range(recording.model.anatomy.heads)


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
    from llmscope.record.derive.row_stats import cached_pattern_rows

    length = len(recording)
    if focus.mode == "all":
        every = []
        for head in _heads(
            recording, focus.layer
        ):  # one by one: all at once may not fit on the device
            alone = replace(focus, mode="raw", head=head, span=(0, length))
            every.append((yield from _values(recording, alone, rows, pool)))
        return np.stack(every)
    if pool > 1:
        values = yield from _pool_pattern(recording, focus, rows, pool)
    else:
        which = (focus.layer, focus.mode, focus.head if focus.mode in SINGLE else None)
        weigh = partial(_weights, recording, focus)
        values = yield from cached_pattern_rows(recording, which, rows, weigh)
    queries = rows.start // pool + np.arange(len(values))
    values[np.arange(values.shape[1]) > queries[:, None]] = np.nan  # keys after the query
    return values


def _weights(recording: Recording, focus: Focus, rows: range) -> Fetching[NDArray[np.float32]]:
    """Return rows of one head's pattern, or of all heads' reduced one by one. [query, key]"""
    from llmscope.record.derive import patterns
    from llmscope.record.derive.tensors import pattern
    from llmscope.record.fetch import on_cpu

    mapped = recording.model.anatomy.layers[focus.layer].mapped is not None
    if mapped:
        total = _map(recording, focus, rows)
    elif focus.mode == "rollout":
        total = patterns.rollout(recording, focus.layer, rows)
    elif focus.mode == "mean":
        total = patterns.mean_pattern(recording, focus.layer, rows)
    elif focus.mode == "max":
        total = pattern(recording, focus.layer, 0, rows)
        for head in range(1, recording.model.anatomy.heads):
            total = total.maximum(pattern(recording, focus.layer, head, rows))
    else:
        total = pattern(recording, focus.layer, focus.head, rows)
    if focus.mode == "value-weighted" and not mapped:
        total = total * patterns.value_lengths(recording, focus.layer, focus.head, rows)
    (near,) = yield from on_cpu(total)
    weights: NDArray[np.float32] = near.numpy().astype(np.float32)
    if focus.mode == "no-sink":
        weights = patterns.without(weights, patterns.sinks_of(recording))
    return weights


def _map(recording: Recording, focus: Focus, rows: range) -> Tensor:
    """Return rows of the map of one head, or of several reduced one by one. [query, key]"""
    from llmscope.record.derive.token_maps import reduced_maps, value_lengths, whole_map

    if focus.mode == "value-weighted":
        lengths = value_lengths(recording, focus.layer, focus.head)
        return whole_map(recording, focus.layer, focus.head, rows).abs() * lengths
    if focus.mode in SINGLE:
        return whole_map(recording, focus.layer, focus.head, rows)
    return reduced_maps(recording, focus.layer, rows, largest=focus.mode == "max")


def _pool_pattern(
    recording: Recording, focus: Focus, rows: range, pool: int
) -> Fetching[NDArray[np.float32]]:
    """Return the maximum of each block of queries and keys, in chunks of queries. [query, key]

    Of a map the value of largest magnitude, with its sign.
    """
    length = len(recording)
    mapped = recording.model.anatomy.layers[focus.layer].mapped is not None
    reduce = _largest if mapped else np.fmax.reduceat
    edges = np.arange(0, length, pool)
    values = np.full((-(-len(rows) // pool), len(edges)), np.nan, dtype=np.float32)
    # A rollout costs as much for a few rows as for all, and is never long.
    chunk = len(rows) if focus.mode == "rollout" else max(1, CHUNK // pool) * pool
    for start in range(rows.start, rows.stop, chunk):
        chunk_rows = range(start, min(start + chunk, rows.stop))
        weights = yield from _weights(recording, focus, chunk_rows)
        by_key = reduce(weights, edges, axis=1)
        by_block = reduce(by_key, np.arange(0, len(chunk_rows), pool), axis=0)
        first = (start - rows.start) // pool
        values[first : first + len(by_block)] = by_block
    return values


def _largest(
    values: NDArray[np.float32], edges: NDArray[np.int64], axis: int
) -> NDArray[np.float32]:
    """Return the value of largest magnitude between edges along an axis."""
    high = np.fmax.reduceat(values, edges, axis=axis)
    low = np.fmin.reduceat(values, edges, axis=axis)
    return np.where(-low > high, low, high)


def describe_cursor(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield what the token looks at most."""
    layer, head = figure.extra.get("layer", focus.layer), figure.extra.get("head")
    if layer != focus.layer or head not in (None, focus.head) or figure.unit == "norm":
        return
    *heads, queries, keys = figure.axes
    index = queries.index(focus.position)
    if index is None or queries.step > 1 or keys.step > 1:
        return
    for query, first, last in figure.extra.get("blocked", ()):
        if query == queries.start + index:
            others = f" and {last - first} more" * (last > first)
            yield f"may not read {quoted_token(keys.labels[first])}{others}: blocked by an edit"
    shares = figure.values[..., index, :].mean(0) if heads else figure.values[index]  # [key]
    known = np.flatnonzero(np.isfinite(shares))
    if not len(known):
        return
    if figure.unit == SIGNED_WEIGHT:
        yield from _describe_weights(figure, keys, index, shares)
        return
    key = int(known[shares[known].argmax()])
    mode = figure.extra.get("mode", "mean")
    who = "the rollout" if mode == "rollout" else f"{'mean' if heads else mode} of heads"
    who = who if head is None else f"head {head}{' beside the sink' * (mode == 'no-sink')}"
    yield f"{who} looks most at {quoted_token(keys.labels[key])} ({share(float(shares[key]))})"


def _describe_weights(
    figure: Figure, keys: Axis, query: int, weights: NDArray[np.float32]
) -> Iterator[str]:
    """Yield the largest weight of a row of a map, and how far back half of all weights lie."""
    key = int(np.nanargmax(np.abs(weights)))
    head, of = figure.extra.get("head"), figure.extra["of"]
    who = f"{figure.extra['mode']} of {of}s" if head is None else f"{of} {head}"
    yield f"{who} takes most from {quoted_token(keys.labels[key])} ({float(weights[key]):+.3g})"
    if len(figure.axes) == 2:
        token = figure.axes[0].start + query
        back = half_distance(weights[: token + 1])
        if back is not None:
            where = f"within {amount(back, 'token')} back" if back else "on the token itself"
            yield f"half of |weight| {where}"


def half_distance(weights: NDArray[np.float32]) -> int | None:
    """Return how many tokens back half of the sum of magnitudes is reached; None if that is 0.

    Args:
        weights: those of the keys up to the query's own, which is at distance 0. [key]
    """
    passed = np.cumsum(np.abs(weights[::-1].astype(np.float64)))
    if not len(passed) or not passed[-1] > 0:
        return None
    return int(np.argmax(passed >= passed[-1] / 2))


LENS = Lens(
    name="attention",
    question="Where does this head look?",
    compute=compute,
    fetches=("raw", "value-weighted", "no-sink", "mean", "max"),
    needs=("patterns",),
    maps=("raw", "value-weighted", "mean", "max", "all"),
    options=(LAYER, HEAD, SPAN, POOL),
    modes=("raw", "value-weighted", "no-sink", "mean", "max", "all", "rollout"),
    only_in={"head": SINGLE},
    axes={"all": ("head", "query", "key"), "": ("query", "key")},
    columns=(
        key("layer", "layer, from 0", "layer"),
        key("head", "head, from 0", "head", SINGLE),
        number(
            "weight",
            "share of the query's attention; signed weight of the map of a layer without attention",
            unit="probability or signed weight",
            modes=("raw", "mean", "max", "all"),
        ),
        number(
            "weight",
            "share of the query's attention",
            unit="probability",
            modes=("no-sink", "rollout"),
        ),
        number(
            "weight",
            "length of what the head would write if it saw that token alone; of a map, |weight| "
            "times the length of the value",
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
do, and treats all heads alike.

A layer without attention (state space, linear attention, short convolution) has an exact map in \
its place, of each head or channel: what it gives at a token, before its gate, norm and \
projection, is the sum of the values so far with these weights. They have both signs and sum to \
nothing in particular, so the scale is diverging; the weight on the token itself includes what a \
layer passes by its state. The line below says how many tokens back half of |weight| lies. \
`value-weighted` is then |weight| times the length of the value; `no-sink` and `rollout` are of \
shares, and refused. \
[ and ] change the head, { and } the layer, a the mode.""",
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
rollout: A'ₗ … A'₁ A'₀ with A' = (A + I) / 2, rows scaled to a sum of 1
map: outputₜ = Sₜᵀ qₜ = Σₛ wₜₛ vₛ
state space: Sₜ = aₜ Sₜ₋₁ + bₜ kₜ vₜᵀ; delta rule: Sₜ = aₜ Sₜ₋₁ + bₜ kₜ (vₜ − (aₜ Sₜ₋₁)ᵀ kₜ)ᵀ
wₜₛ = qₜᵀ (∏ of what each later token leaves of the state) bₛ kₛ""",
    sources="""\
Kobayashi et al. 2020, "Attention is Not Only a Weight"; Abnar & Zuidema 2020, "Quantifying \
Attention Flow", for the rollout; Ali et al. 2024, "The Hidden Attention of Mamba Models", and \
Yang et al. 2024, "Gated Delta Networks", for layers without attention.""",
    establishes="""\
from which tokens this head takes its values at each token, and in what shares, in this pass.""",
    not_established="""\
that the answer needs what it looks at, or what the head takes from there: a share says nothing of \
the values, and heads rest on a token that they do not use.""",
    next_check="""\
`value-weighted` tells whether the head writes anything of that token; the lens ablation, or the \
edit `zero head LAYER.HEAD`, whether the answer needs the head.""",
)
