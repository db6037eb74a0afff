"""At which layer the answer becomes the likeliest token for good, over prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmscope.figure.tables.arrow import FROM_END
from llmscope.report.groups import LAST, cluster_of
from llmscope.report.means import Estimate, Resampling, finite
from llmscope.report.reader import BatchTables, LensTable, numbers
from llmscope.support.bootstrap import BLOCK, ClusteredMeans, Floats, Ints

RANK, LAYER = "rank_target", "layer"
NEVER = 1 << 30


@dataclass(frozen=True)
class FirstLayer:
    """From which layer on the target has rank 1 at the last position, over prompts.

    Attributes:
        lens: the lens.
        layers: the share of prompts for each layer, labelled with it; −1 is the embedding.
        never: the share of prompts whose target is not first after the last layer.
        median: the median layer of the prompts whose target becomes first; None without any.
        without: the number of prompts without a target.
    """

    lens: str
    layers: tuple[Estimate, ...]
    never: Estimate
    median: float | None
    without: int


def has_ranks(table: LensTable) -> bool:
    """Return whether a table tells the rank of the target by layer and position."""
    return all(
        name in table.columns and table.columns[name].numeric
        for name in (RANK, LAYER, FROM_END.name)
    )


def first_layer(folder: BatchTables, lens: str, how: Resampling) -> FirstLayer | None:
    """Return from which layer on the target is the likeliest token; None if there is no target.

    Raises:
        ScopeError: a file is damaged.
    """
    lines, firsts = list[Ints](), list[Ints]()
    layers: set[int] = set()
    for line, table in folder.tables(lens, (LAYER, FROM_END.name, RANK)):
        layer, rank = numbers(table.column(LAYER)), finite(table.column(RANK))
        is_last = (
            (numbers(table.column(FROM_END.name)) == LAST) & ~np.isnan(layer) & ~np.isnan(rank)
        )
        line_of_each, first = _firsts(line[is_last], layer[is_last], rank[is_last])
        layers |= set(np.unique(layer[is_last]).astype(int).tolist())
        lines.append(line_of_each)
        firsts.append(first)
    line, first = np.concatenate(lines), np.concatenate(firsts)
    if not len(line):
        return None
    clusters = folder.clusters(lens)
    order = np.argsort(line)
    line, first = line[order], first[order]
    cluster_of(line, clusters, folder.shown)
    draws = how.draws(len(line))
    known = [*sorted(layers), NEVER]
    sums = ClusteredMeans(draws)
    index, code_of = np.arange(len(line)), np.arange(len(known))
    for block in np.array_split(index, -(-len(index) // BLOCK)):
        reached = first[block, None] == np.array(known)  # [prompt, layer]
        codes = np.broadcast_to(code_of, reached.shape)
        clusters_of = np.broadcast_to(block[:, None], reached.shape)
        sums.add(clusters_of.ravel(), codes.ravel(), reached.ravel().astype(np.float64))
    means = sums.means()
    low, high = means.intervals(how.level)
    several = len(line) > 1
    shares = [
        Estimate(
            ("never" if layer_of == NEVER else layer_of,),
            float(means.mean[code]),
            float(low[code]) if several else None,
            float(high[code]) if several else None,
            prompts=len(line),
            rows=int((first == layer_of).sum()),
        )
        for code, layer_of in enumerate(known)
    ]
    there = first[first != NEVER]
    median = float(np.median(there)) if len(there) else None
    return FirstLayer(lens, tuple(shares[:-1]), shares[-1], median, len(clusters) - len(line))


def _firsts(line: Ints, layer: Floats, rank: Floats) -> tuple[Ints, Ints]:
    """Return the lines of the prompts with a target, and the first layer of each.

    Args:
        line, layer: where each row is. [row]
        rank: the rank of the target. [row]
    """
    prompts, prompt = np.unique(line, return_inverse=True)
    # The layers from the last one down as long as the rank is 1: the lowest of them is the first.
    top_wrong = np.full(len(prompts), -np.inf)
    np.maximum.at(top_wrong, prompt, np.where(rank == 1, -np.inf, layer))
    above = layer > top_wrong[prompt]
    first = np.full(len(prompts), float(NEVER))
    np.minimum.at(first, prompt[above], layer[above])
    return prompts, first.astype(np.int64)
