"""Bootstrap intervals of means whose rows come in clusters, such as the tokens of a prompt.

Rows of one cluster are not independent, so whole clusters are drawn with replacement. The draws
are made anew for a block of clusters at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Interval = tuple[float, float] | None
"""The ends of an interval; None where one cluster alone tells nothing of the spread."""

BLOCK = 512
"""Clusters whose draws are held at once: 8 MB with 2000 resamples."""
OPEN = 2
"""Blocks whose sums are held before their draws are applied."""


class Draws:
    """How often each resample draws each cluster.

    The draws depend on the number of clusters and the seed alone, not on the order in which
    blocks are read, so several means of the same draws are paired.

    Args:
        clusters: how many clusters there are; every resample draws that many.
        resamples: the number of resamples.
        seed: of the random numbers.
    """

    def __init__(self, clusters: int, *, resamples: int, seed: int) -> None:
        self.clusters, self.resamples, self._seed = clusters, resamples, seed
        starts = np.arange(0, clusters, BLOCK)
        self._sizes = np.minimum(BLOCK, clusters - starts)
        self._totals: Ints | None = None  # [resample, block]
        if len(starts) > 1:
            random = np.random.default_rng(seed)
            self._totals = random.multinomial(clusters, self._sizes / clusters, size=resamples)
        self._block = lru_cache(maxsize=2)(self._made)

    def size(self, block: int) -> int:
        """Return the number of clusters in a block."""
        return int(self._sizes[block])

    def weights(self, block: int) -> Floats:
        """Return how often each resample draws each cluster of a block. [resample, cluster]"""
        return self._block(block)

    def _made(self, block: int) -> Floats:
        size = self.size(block)
        if self._totals is None:
            random = np.random.default_rng(self._seed)
            totals = np.full(self.resamples, size)
        else:
            random = np.random.default_rng([self._seed, block + 1])
            totals = self._totals[:, block]
        drawn = random.integers(size, size=int(totals.sum()))
        drawn += np.repeat(np.arange(self.resamples) * size, totals)
        counted = np.bincount(drawn, minlength=self.resamples * size)
        return counted.reshape(self.resamples, size).astype(np.float64)


@dataclass(frozen=True)
class Means:
    """Means over all rows of each group, and over those of each resample.

    Attributes:
        mean: NaN for a group without rows. [group]
        drawn: NaN where a resample drew no row of the group. [resample, group]
        rows: the number of rows. [group]
        clusters: the number of clusters that have such rows. [group]
    """

    mean: Floats
    drawn: Floats
    rows: Ints
    clusters: Ints

    def intervals(self, level: float) -> tuple[Floats, Floats]:
        """Return the lower and upper ends of percentile intervals; NaN for fewer than 2 clusters.

        Args:
            level: the share of the resamples that an interval holds.
        """
        tail = (1 - level) / 2
        ends = np.full((2, len(self.mean)), np.nan)
        told = self.clusters > 1
        if told.any():
            ends[:, told] = np.nanquantile(self.drawn[:, told], [tail, 1 - tail], axis=0)
        return ends[0], ends[1]

    def nonzero(self, level: float) -> NDArray[np.bool_]:
        """Return which means differ from 0 after the correction for all groups at once. [group]

        The correction is single-step max-T: the largest standardized deviation over all groups, of
        each resample, gives the threshold that every group's own is held against. So at most
        1 − `level` of such families of true zeros have any group marked, and groups that move
        together, as heads of one layer do, cost less than with Bonferroni. Benjamini-Hochberg
        would need p-values that a few thousand resamples are too coarse for.
        """
        found = np.zeros(len(self.mean), np.bool_)
        told = np.flatnonzero(self.clusters > 1)
        if not len(told):
            return found
        drawn, mean = self.drawn[:, told], self.mean[told]
        error = np.nanstd(drawn, axis=0, ddof=1)
        constant = error <= 1e-12 * np.abs(mean)  # the same in every cluster
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(constant, 0.0, np.abs(drawn - mean) / error)
            far = np.where(constant, np.where(mean != 0, np.inf, 0.0), np.abs(mean) / error)
        threshold = np.quantile(np.nanmax(moved, axis=1, initial=0.0), level)
        found[told] = far > threshold
        return found


class ClusteredMeans:
    """Sums of groups of rows by resample, added up file by file.

    Args:
        draws: which clusters are drawn.
    """

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self._drawn = np.zeros((draws.resamples, 2, 0))  # [resample, sum or count, group]
        # Sums and counts of blocks of clusters whose draws were not applied yet: files in the
        # order of their lines fill one block after the other.
        self._open: dict[int, Floats] = {}  # [cluster, sum or count, group]
        self._all = np.zeros((2, 0))  # [sum or count, group]
        self._clusters = np.zeros(0, np.int64)

    def grow(self, groups: int) -> None:
        """Make room for this many groups."""
        more = groups - self._all.shape[1]
        if more > 0:
            self._drawn = np.pad(self._drawn, ((0, 0), (0, 0), (0, more)))
            for block, held in self._open.items():
                self._open[block] = np.pad(held, ((0, 0), (0, 0), (0, more)))
            self._all = np.pad(self._all, ((0, 0), (0, more)))
            self._clusters = np.pad(self._clusters, (0, more))

    def add(self, cluster: Ints, group: Ints, values: Floats) -> None:
        """Add rows. All rows of a cluster have to come in one call.

        Args:
            cluster: the index of each row's cluster. [row]
            group: the index of its group; rows of a negative one are left out. [row]
            values: the values; rows of NaN count as missing. [row]
        """
        kept = ~np.isnan(values) & (group >= 0)
        cluster, group, values = cluster[kept], group[kept], values[kept]
        if not len(values):
            return
        self.grow(int(group.max()) + 1)
        groups = self._all.shape[1]
        present, place = np.unique(cluster, return_inverse=True)
        at = place * groups + group
        shape = (len(present), groups)
        cells = len(present) * groups
        sums = np.bincount(at, values, cells).reshape(shape)
        counts = np.bincount(at, minlength=cells).astype(np.float64).reshape(shape)
        self._all += np.stack([sums.sum(0), counts.sum(0)])
        self._clusters += (counts > 0).sum(0)
        blocks = present // BLOCK
        for block in np.unique(blocks).tolist():
            here = blocks == block
            if block not in self._open:
                while len(self._open) >= OPEN:
                    self._close(next(iter(self._open)))
                self._open[block] = np.zeros((self.draws.size(block), 2, groups))
            inside = present[here] - block * BLOCK
            self._open[block][inside, 0] += sums[here]
            self._open[block][inside, 1] += counts[here]

    def _close(self, block: int) -> None:
        """Apply the draws of a block."""
        held = self._open.pop(block)
        drawn = self.draws.weights(block) @ held.reshape(len(held), -1)
        self._drawn += drawn.reshape(self._drawn.shape)

    def means(self) -> Means:
        """Return the means of what was added."""
        for block in list(self._open):
            self._close(block)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._all[0] / self._all[1]
            drawn = self._drawn[:, 0] / self._drawn[:, 1]
        return Means(mean, drawn, self._all[1].astype(np.int64), self._clusters.copy())


def bootstrap(
    sums: Mapping[str, Floats],
    counts: Ints,
    *,
    resamples: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    """Return percentile intervals of means per row, from clusters drawn with replacement.

    All means are of the same draws, so a difference is paired.

    Args:
        sums: the sum over the rows of each cluster, by name. [cluster]
        counts: the rows of each cluster. [cluster]
        resamples: how often as many clusters are drawn as there are.
        level: the share of the draws that an interval holds.
        seed: of the random numbers.
    """
    clusters = len(counts)
    if clusters < 2:
        return dict.fromkeys(sums)
    draws = Draws(clusters, resamples=resamples, seed=seed)
    drawn = np.zeros((resamples, len(sums) + 1))
    table = np.stack([*sums.values(), counts], axis=1).astype(np.float64)
    for block, start in enumerate(range(0, clusters, BLOCK)):
        drawn += draws.weights(block) @ table[start : start + BLOCK]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn[:, :-1] / drawn[:, -1:], [tail, 1 - tail], axis=0)
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return dict(zip(sums, ends, strict=True))
