"""Bootstrap intervals of means whose rows come in clusters, such as the tokens of a prompt.

Rows of one cluster are not independent, so whole clusters are drawn with replacement. The draws
are made anew for a block of clusters at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        self._block = lru_cache(maxsize=2)(self._draw_block)

    def size(self, block: int) -> int:
        """Return the number of clusters in a block."""
        return int(self._sizes[block])

    def weights(self, block: int) -> Floats:
        """Return how often each resample draws each cluster of a block. [resample, cluster]"""
        return self._block(block)

    def _draw_block(self, block: int) -> Floats:
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
        t: the mean in units of its standard error; None if it was not asked for. [group]
        drawn_t: how far that of each resample is from the mean, in units of the resample's own
            standard error. [resample, group]
    """

    mean: Floats
    drawn: Floats
    rows: Ints
    clusters: Ints
    t: Floats | None = None
    drawn_t: Floats | None = None

    def intervals(self, level: float) -> tuple[Floats, Floats]:
        """Return the lower and upper ends of percentile intervals; NaN for fewer than 2 clusters.

        Args:
            level: the share of the resamples that an interval holds.
        """
        tail = (1 - level) / 2
        ends = np.full((2, len(self.mean)), np.nan)
        several = self.clusters > 1
        if several.any():
            ends[:, several] = np.nanquantile(self.drawn[:, several], [tail, 1 - tail], axis=0)
        return ends[0], ends[1]

    def nonzero(self, level: float) -> NDArray[np.bool_]:
        """Return which means differ from 0 after the correction for all groups at once. [group]

        The correction is single-step max-T: the largest |t| over all groups, of each resample,
        gives the threshold that every group's own is held against. So about 1 − `level` of the
        families of true zeros have any group marked, and groups that move together, as heads of
        one layer do, cost less than with Bonferroni. Benjamini-Hochberg would need p-values that a
        few thousand resamples are too coarse for.
        """
        assert self.t is not None
        assert self.drawn_t is not None
        is_nonzero = np.zeros(len(self.mean), np.bool_)
        columns = np.flatnonzero(self.clusters > 1)
        if len(columns):
            largest = np.max(np.abs(self.drawn_t[:, columns]), axis=1)
            threshold = np.quantile(largest, level, method="higher")
            is_nonzero[columns] = np.abs(self.t[columns]) > threshold
        return is_nonzero


class ClusteredMeans:
    """Sums of groups of rows by resample, added up file by file.

    Args:
        draws: which clusters are drawn.
        studentized: keep the squares as well, for standard errors.
    """

    def __init__(self, draws: Draws, *, studentized: bool = False) -> None:
        self.draws = draws
        # Moments: sums s and counts c of the clusters; if studentized, also s², s c and c².
        self._moments = 5 if studentized else 2
        self._drawn = np.zeros((draws.resamples, self._moments, 0))  # [resample, moment, group]
        # Sums and counts of blocks of clusters whose draws were not applied yet: files in the
        # order of their lines fill one block after the other.
        self._open: dict[int, Floats] = {}  # [cluster, moment, group]
        self._all = np.zeros((self._moments, 0))  # [moment, group]
        self._clusters = np.zeros(0, np.int64)

    def grow(self, groups: int) -> None:
        """Make room for this many groups."""
        more = groups - self._all.shape[1]
        if more > 0:
            self._drawn = np.pad(self._drawn, ((0, 0), (0, 0), (0, more)))
            for block, sums in self._open.items():
                self._open[block] = np.pad(sums, ((0, 0), (0, 0), (0, more)))
            self._all = np.pad(self._all, ((0, 0), (0, more)))
            self._clusters = np.pad(self._clusters, (0, more))

    def add(self, cluster: Ints, group: Ints, values: Floats) -> None:
        """Add rows. All rows of a cluster have to come in one call.

        Args:
            cluster: the index of each row's cluster. [row]
            group: the index of its group; rows of a negative one are left out. [row]
            values: the values; rows of NaN count as missing. [row]
        """
        valid = ~np.isnan(values) & (group >= 0)
        cluster, group, values = cluster[valid], group[valid], values[valid]
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
        moments = np.stack([sums, counts], axis=1)
        if self._moments > 2:
            squares = np.stack([sums * sums, sums * counts, counts * counts], axis=1)
            moments = np.concatenate([moments, squares], axis=1)
        self._all += moments.sum(0)
        self._clusters += (counts > 0).sum(0)
        blocks = present // BLOCK
        for block in np.unique(blocks).tolist():
            here = blocks == block
            if block not in self._open:
                while len(self._open) >= OPEN:
                    self._close(next(iter(self._open)))
                self._open[block] = np.zeros((self.draws.size(block), self._moments, groups))
            self._open[block][present[here] - block * BLOCK] += moments[here]

    def _close(self, block: int) -> None:
        """Apply the draws of a block."""
        sums = self._open.pop(block)
        drawn = self.draws.weights(block) @ sums.reshape(len(sums), -1)
        self._drawn += drawn.reshape(self._drawn.shape)

    def means(self) -> Means:
        """Return the means of what was added."""
        for block in list(self._open):
            self._close(block)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._all[0] / self._all[1]
            drawn = self._drawn[:, 0] / self._drawn[:, 1]
        result = Means(mean, drawn, self._all[1].astype(np.int64), self._clusters.copy())
        if self._moments == 2:
            return result
        t = _t(mean, mean, self._all)
        drawn_t = _t(drawn - mean, drawn, self._drawn.swapaxes(0, 1))
        return replace(result, t=t, drawn_t=drawn_t)


def _t(distance: Floats, mean: Floats, moments: Floats) -> Floats:
    """Return distances in units of the standard error of a mean of clusters.

    It lacks the factor of the number of clusters, which is the same in every resample. Infinite
    where all clusters have the same mean.

    Args:
        distance: what is told in these units. […, group]
        mean: the mean. […, group]
        moments: sums over clusters of s, c, s², s c and c². [moment, …, group]
    """
    _, counts, squares, products, sizes = moments
    residual = squares - 2 * mean * products + mean * mean * sizes
    smallest = 1e-24 * np.abs(squares)  # rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(np.where(residual > smallest, residual, 0.0)) / counts
        t: Floats = distance / error
    return np.where(np.isnan(t), 0.0, t)


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
