"""The summary of a comparison, from the shards of its table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmscope.jobs.compare.llama_cpp import figures
from llmscope.jobs.compare.moved import most_moved
from llmscope.jobs.compare.request import CorpusComparison
from llmscope.jobs.compare.shards import StoredShard, texts_digest
from llmscope.jobs.compare.side import Reader
from llmscope.jobs.compare.tokens import LayerSums
from llmscope.record.compare.stream_difference import paired_streams, rounding_bound
from llmscope.support.bootstrap import Floats, Interval, bootstrap

SCHEMA = 1


def summarize_shards(
    shards: Sequence[StoredShard], readers: tuple[Reader, Reader], how: CorpusComparison
) -> dict[str, Any]:
    """Return the statistics of a comparison, as JSON types.

    All values of the columns in `NUMBERS` are held at once, 32 bytes a token: quantiles are exact.

    Raises:
        ScopeError: no text is long enough, or a shard is damaged.
    """
    texts = [text for shard in shards for text in shard.texts]
    counts = np.array([text.tokens for text in texts], np.int64)
    if not len(counts):
        raise how.counting.nothing_counts()
    parts = [shard.numbers() for shard in shards]
    kl, log_p_a, log_p_b, same = (
        np.concatenate([part[name] for part in parts])
        for name in ("kl", "log_p_a", "log_p_b", "same_top")
    )
    gain = log_p_b - log_p_a
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    each: dict[str, Floats] = {
        name: np.add.reduceat(values, starts)
        for name, values in (("kl", kl), ("same_top", same), ("gain", gain))
    }
    intervals = bootstrap(each, counts, resamples=how.resamples, level=how.level, seed=how.seed)
    median, p90, p99 = np.quantile(kl, [0.5, 0.9, 0.99]).tolist()
    return {
        "schema": SCHEMA,
        "texts": {
            "count": len(counts),
            "skipped": sum(len(shard.skipped) for shard in shards),
            "cut": sum(text.cut for text in texts),
            "sha256": texts_digest(shards),
        },
        "tokens": len(kl),
        "kl": {
            "mean": float(kl.mean()),
            "interval": _interval_list(intervals["kl"]),
            "median": median,
            "p90": p90,
            "p99": p99,
            "max": float(kl.max()),
        },
        "same_top": {
            "share": float(same.mean()),
            "interval": _interval_list(intervals["same_top"]),
        },
        "log_likelihood": {
            "a": float(log_p_a.mean()),
            "b": float(log_p_b.mean()),
            "b_minus_a": float(gain.mean()),
            "interval": _interval_list(intervals["gain"]),
        },
        "perplexity": {"a": math.exp(-log_p_a.mean()), "b": math.exp(-log_p_b.mean())},
        "intervals": {
            "method": "paired percentile bootstrap over texts",
            "resamples": how.resamples,
            "level": how.level,
            "seed": how.seed,
        },
        "streams": _streams(shards, readers, how),
        "moved": most_moved((record for shard in shards for record in shard.moved), how.moved),
        "llama.cpp": figures(kl, log_p_a, log_p_b, same),
    }


def _interval_list(interval: Interval) -> list[float] | None:
    return None if interval is None else list(interval)


def _streams(
    shards: Sequence[StoredShard], readers: tuple[Reader, Reader], how: CorpusComparison
) -> Mapping[str, Any] | None:
    """Return how far the streams are apart by layer; None if they were not compared."""
    a, b = readers
    pairs = paired_streams(a.layers, b.layers)
    alignment = {
        "layers_a": a.layers,
        "layers_b": b.layers,
        "aligned_by_depth": a.layers != b.layers,
    }
    if not how.layers:
        return None
    if a.width != b.width:
        reason = f"streams of width {a.width} and {b.width} cannot be compared"
        return {**alignment, "reason": reason, "layers": None}
    sums = LayerSums.of(len(pairs))
    for shard in shards:
        if shard.layers is not None:
            sums.add(shard.layers)
    tokens = sum(text.tokens for shard in shards for text in shard.texts)
    # More than half of the tokens: their median, as of a single text.
    beyond = np.flatnonzero(sums.beyond * 2 > tokens)
    first = Counter(text.parts for shard in shards for text in shard.texts)
    return {
        **alignment,
        "bound": rounding_bound(a.dtype, b.dtype),
        "parts_after": int(beyond[0]) - 1 if len(beyond) else None,
        "texts_that_part_after": [
            {"after": None if at is None else at - 1, "texts": first[at]}
            for at in sorted(first, key=lambda place: (place is None, place or 0))
        ],
        "layers": [
            {
                "after": stream - 1,
                "after_b": other - 1,
                "cosine": float(sums.cosine[at] / max(sums.tokens[at], 1)),
                "difference": float(sums.difference[at] / max(sums.tokens[at], 1)),
                "beyond_rounding": float(sums.beyond[at] / tokens),
            }
            for at, (stream, other) in enumerate(pairs)
        ],
    }
