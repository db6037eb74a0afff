"""Means and quantiles of the columns of a lens, in one pass over its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.report.groups import Grouping, Label, cluster_of
from llmscope.report.reader import BatchTables, numbers
from llmscope.support.bootstrap import ClusteredMeans, Draws, Floats

PLACES = ("layer", "head", "position")
"""Keys of which a prompt may have several, and that a mean over all rows is over."""
SAMPLE = 1_000_000
"""Values whose quantiles are exact; of more, those of a random sample of this size are told."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        resamples, level, seed: of the bootstrap.
        ranges: how many ranges of a number with many values.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0
    ranges: int = 5

    def draws(self, clusters: int) -> Draws:
        """Return the draws of a number of prompts."""
        return Draws(clusters, resamples=self.resamples, seed=self.seed)


@dataclass(frozen=True)
class Estimate:
    """The mean of a group of rows.

    Attributes:
        labels: of the group, one for each column it was made by.
        mean: over all rows.
        low, high: the ends of its interval; None for fewer than two prompts.
        prompts, rows: how many there are.
        nonzero: whether the interval excludes 0; None where that means nothing.
        corrected: the same after the correction for all groups; None where that means nothing.
    """

    labels: tuple[Label, ...]
    mean: float
    low: float | None
    high: float | None
    prompts: int
    rows: int
    nonzero: bool | None = None
    corrected: bool | None = None


@dataclass(frozen=True)
class Breakdown:
    """The means of a column by other columns.

    Attributes:
        lens, value, unit: the column.
        by: the columns that make the groups; empty for all rows.
        ordered: whether the labels of each have an order.
        estimates: in the order of the labels.
        difference: whether the values are differences or effects, of which 0 means nothing.
        last: whether only the last token of each prompt counts.
    """

    lens: str
    value: str
    unit: str
    by: tuple[str, ...]
    ordered: tuple[bool, ...]
    estimates: tuple[Estimate, ...]
    difference: bool = False
    last: bool = False

    @property
    def constant(self) -> bool:
        """Whether all groups have the same mean, so that the columns tell nothing."""
        return (
            len({(estimate.mean, estimate.low, estimate.high) for estimate in self.estimates})
            == 1
            < len(self.estimates)
        )

    @property
    def ranked(self) -> list[Estimate]:
        """The estimates, the largest in magnitude first."""
        return sorted(self.estimates, key=lambda estimate: -abs(estimate.mean))


@dataclass(frozen=True)
class Distribution:
    """A column over all rows.

    Attributes:
        lens, value, unit: the column.
        all: its mean.
        quantiles: those of `QUANTILES`.
        missing: rows without a value, or with an infinite one.
        sampled: the number of values that the quantiles are of; None if they are of all.
        over: how many layers, heads and positions of a prompt the mean is over; only those of
            which there are several.
    """

    lens: str
    value: str
    unit: str
    all: Estimate
    quantiles: tuple[float, ...]
    missing: int
    sampled: int | None
    over: Mapping[str, int] = field(default_factory=dict)


class Reservoir:
    """A random sample of values that come in parts; all of them as long as they fit."""

    def __init__(self, size: int = SAMPLE, seed: int = 0) -> None:
        self._size, self._random = size, np.random.default_rng(seed)
        self._values: Floats = np.zeros(0)
        self._ranks: Floats = np.zeros(0)
        self.count = 0

    def add(self, values: Floats) -> None:
        """Add values without NaN."""
        self.count += len(values)
        self._values = np.concatenate([self._values, values])
        self._ranks = np.concatenate([self._ranks, self._random.random(len(values))])
        if len(self._values) > 2 * self._size:
            self._cut()

    def values(self) -> Floats:
        """Return the sample."""
        if len(self._values) > self._size:
            self._cut()
        return self._values

    def _cut(self) -> None:
        chosen = np.argpartition(self._ranks, self._size)[: self._size]
        self._values, self._ranks = self._values[chosen], self._ranks[chosen]


@dataclass
class _Column:
    """What is added up of a column."""

    means: list[ClusteredMeans]
    sample: Reservoir = field(default_factory=Reservoir)
    rows: int = 0


def measure_means(
    folder: BatchTables,
    lens: str,
    values: Sequence[str],
    groupings: Sequence[Grouping],
    how: Resampling,
    *,
    corrected: bool = False,
    last: bool = False,
) -> tuple[list[Distribution], list[Breakdown]]:
    """Return the distribution of each column of values, and its means by each grouping.

    Args:
        folder: the folder.
        lens: the lens.
        values: columns of numbers.
        groupings: of the rows.
        how: how intervals are made.
        corrected: tell which means differ from 0.
        last: the distributions of the last token of each prompt alone.

    Raises:
        ScopeError: a file is damaged, or there are too many groups.
    """
    clusters = folder.clusters(lens)
    draws = how.draws(len(clusters))
    groupings = [Grouping(folder, lens, (), how.ranges, last=last), *groupings]
    values_by_name = {
        value: _Column([ClusteredMeans(draws, studentized=corrected) for _ in groupings])
        for value in values
    }
    places = [name for name in PLACES if name in folder.table(lens).columns]
    most_rows = dict.fromkeys(places, 0)
    columns = tuple(
        {*values, *places, *(name for grouping in groupings for name in grouping.columns)}
    )
    for line, table in folder.tables(lens, columns):
        cluster = cluster_of(line, clusters, folder.shown)
        codes = [grouping.codes(line, table) for grouping in groupings]
        for name in places:
            counted_rows = codes[0] >= 0
            of_prompts = numbers(table.column(name))[counted_rows]
            most_rows[name] = max(most_rows[name], _most_distinct(line[counted_rows], of_prompts))
        for value, column in values_by_name.items():
            numbered = finite(table.column(value))
            counted = codes[0] >= 0
            column.rows += int(counted.sum())
            column.sample.add(numbered[counted & ~np.isnan(numbered)])
            for means, code in zip(column.means, codes, strict=True):
                means.add(cluster, code, numbered)
    units = {name: column.unit for name, column in folder.table(lens).columns.items()}
    over = {name: count for name, count in most_rows.items() if count > 1}
    distributions, breakdowns = list[Distribution](), list[Breakdown]()
    for value, column in values_by_name.items():
        every = estimates(column.means[0], groupings[0], how)
        if every:
            sample = column.sample
            quantiles = tuple(np.quantile(sample.values(), QUANTILES).tolist())
            sampled = SAMPLE if sample.count > SAMPLE else None
            missing = column.rows - sample.count
            distributions.append(
                Distribution(lens, value, units[value], every[0], quantiles, missing, sampled, over)
            )
        for means, grouping in list(zip(column.means, groupings, strict=True))[1:]:
            estimated = estimates(means, grouping, how, corrected=corrected)
            if estimated:
                about = (lens, value, units[value], grouping.by, grouping.ordered)
                breakdowns.append(Breakdown(*about, tuple(estimated), corrected, grouping.last))
    return distributions, breakdowns


def _most_distinct(lines: NDArray[Any], values: NDArray[Any]) -> int:
    """Return how many distinct values a prompt has at most.

    Args:
        lines: the line of the prompt of each row; all rows of a prompt are there. [row]
        values: of a key such as the layer. [row]
    """
    if not len(lines):
        return 0
    distinct, codes = np.unique(values, return_inverse=True)
    pairs = np.unique(lines * len(distinct) + codes)
    return int(np.unique(pairs // len(distinct), return_counts=True)[1].max())


def finite(column: Any) -> Floats:
    """Return a column of numbers, with NaN for nulls and for infinities."""
    values = numbers(column)
    return np.where(np.isfinite(values), values, np.nan)


def estimates(
    sums: ClusteredMeans, grouping: Grouping, how: Resampling, *, corrected: bool = False
) -> list[Estimate]:
    """Return the mean of each group that has rows, in the order of the labels.

    Args:
        sums: what was added up.
        grouping: of the rows that were added.
        how: how intervals are made.
        corrected: tell which means differ from 0.
    """
    labels = grouping.labels
    sums.grow(len(labels))
    means = sums.means()
    low, high = means.intervals(how.level)
    sure = means.nonzero(how.level) if corrected else None
    results = []
    for code in grouping.sorted():
        if not means.rows[code]:
            continue
        several = bool(means.clusters[code] > 1)
        results.append(
            Estimate(
                labels[code],
                float(means.mean[code]),
                float(low[code]) if several else None,
                float(high[code]) if several else None,
                prompts=int(means.clusters[code]),
                rows=int(means.rows[code]),
                nonzero=None
                if sure is None
                else bool(several and (low[code] > 0 or high[code] < 0)),
                corrected=None if sure is None else bool(sure[code]),
            )
        )
    return results
