"""Compare paired values: of two folders, of two columns, or of two groups of paired prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute

from llmscope.errors import ScopeError, option
from llmscope.jobs.snapshots.shards import PROMPTS
from llmscope.report.groups import Grouping, Label, cluster_of, distinct_labels
from llmscope.report.means import Breakdown, Estimate, Resampling, estimates, finite
from llmscope.report.reader import LINE, BatchTables, unknown, whole
from llmscope.support.bootstrap import ClusteredMeans, Floats, Ints
from llmscope.support.text import display_text


@dataclass(frozen=True)
class PairedComparison:
    """The mean difference of pairs, A − B.

    Attributes:
        lens, value, unit: the column.
        a, b: the names of the two sides.
        pairs_are: what a pair is: rows, or prompts.
        difference: the mean over all pairs; its clusters are the prompts, or the pairs of them.
        mean_a, mean_b: the means of both sides over the same pairs.
        positive: the share of prompts (or of pairs of them) whose mean difference is above 0.
        left_out: rows or prompts that have no partner, or lack a value.
        breakdown: the differences by other columns; None without any.
    """

    lens: str
    value: str
    unit: str
    a: str
    b: str
    pairs_are: str
    difference: Estimate
    mean_a: float
    mean_b: float
    positive: Estimate
    left_out: int
    breakdown: Breakdown | None


class PairedRows(NamedTuple):
    """Rows of one file that have a partner, and the values of both sides.

    Attributes:
        line: of the prompt of each row.
        table: the rows of side A.
        a, b: the values. [row]
        alone: the number of rows of either side without a partner.
    """

    line: Ints
    table: Any
    a: Floats
    b: Floats
    alone: int


def of_columns(
    folder: BatchTables, lens: str, value: str, other: str, columns: Sequence[str]
) -> Iterator[PairedRows]:
    """Yield the values of two columns of each row."""
    for line, table in folder.tables(lens, (value, other, *columns)):
        yield PairedRows(line, table, finite(table.column(value)), finite(table.column(other)), 0)


def of_folders(
    folder: BatchTables, other: BatchTables, lens: str, value: str, columns: Sequence[str]
) -> Iterator[PairedRows]:
    """Yield the values of the rows that both folders have, by line and keys.

    Raises:
        ScopeError: a prompt differs, a key or the column is missing, or rows repeat a key.
    """
    check_prompts(folder, other)
    keys = tuple(key for key in folder.table(lens).having("key"))
    theirs = other.table(lens)
    for name in (*keys, value):
        if name not in theirs.columns:
            raise unknown(f"{other.shown}/{lens} has no column", name, list(theirs.columns))
    places = _files_by_line(other, theirs.files)

    @lru_cache(maxsize=3)
    def read(name: str) -> Any:
        return other.read(name, (LINE, *keys, value))

    for line, table in folder.tables(lens, (*keys, value, *columns)):
        files = dict.fromkeys(places[at] for at in np.unique(line).tolist() if at in places)
        if not files:
            yield PairedRows(line[:0], table.slice(0, 0), np.zeros(0), np.zeros(0), len(line))
            continue
        rows = pyarrow.concat_tables([read(name) for name in files], promote_options="permissive")
        inside = pyarrow.compute.is_in(rows.column(LINE), value_set=pyarrow.array(np.unique(line)))
        rows = rows.filter(inside)
        ours, partners = _match_rows(table, rows, (LINE, *keys), f"{folder.shown}/{lens}")
        yield PairedRows(
            line[ours],
            table.take(pyarrow.array(ours)),
            finite(table.column(value))[ours],
            finite(rows.column(value))[partners],
            len(line) + len(rows) - 2 * len(ours),
        )


def compare_paired(
    folder: BatchTables,
    rows: Iterable[PairedRows],
    grouping: Grouping,
    clusters: Ints,
    how: Resampling,
    names: tuple[str, str, str, str],
) -> PairedComparison:
    """Return the mean difference of paired rows, with intervals over prompts.

    Args:
        folder: side A.
        rows: the pairs, file by file.
        grouping: of the rows of side A.
        clusters: the lines of the prompts that can have pairs, sorted.
        how: how intervals are made.
        names: the lens, its column, and the names of the two sides.

    Raises:
        ScopeError: there is no pair.
    """
    lens, value, a, b = names
    draws = how.draws(len(clusters))
    alone = 0
    every = Grouping(folder, lens, (), how.ranges)
    sums = [ClusteredMeans(draws, studentized=at == 1) for at in range(5)]
    for line, table, ours, theirs, single in rows:
        cluster = cluster_of(line, clusters, folder.shown)
        codes = grouping.codes(line, table)
        difference = np.where(codes >= 0, ours - theirs, np.nan)
        missing = np.isnan(difference)
        alone += single + int((missing & (codes >= 0)).sum())
        zeros = np.zeros(len(line), np.int64)
        sums[0].add(cluster, zeros, difference)
        sums[1].add(cluster, codes, difference)
        sums[2].add(cluster, zeros, np.where(missing, np.nan, ours))
        sums[3].add(cluster, zeros, np.where(missing, np.nan, theirs))
        sums[4].add(*_positive(cluster, difference))
    estimated = [estimates(means_of, every, how) for means_of in (sums[0], *sums[2:])]
    if not estimated[0]:
        raise ScopeError(
            f"no row of {lens} has a value on both sides", "folders or columns that share rows"
        )
    unit = folder.table(lens).columns[value].unit
    breakdown = None
    if grouping.by:
        breakdown_estimates = estimates(sums[1], grouping, how, corrected=True)
        about = (lens, value, unit, grouping.by, grouping.ordered, tuple(breakdown_estimates))
        breakdown = Breakdown(*about, difference=True)
    means = estimated[1][0].mean, estimated[2][0].mean
    return PairedComparison(
        *(
            lens,
            value,
            unit,
            a,
            b,
            "rows",
            estimated[0][0],
            *means,
            estimated[3][0],
            alone,
            breakdown,
        )
    )


def of_paired_prompts(
    folder: BatchTables,
    lens: str,
    value: str,
    column: str,
    pair_by: str,
    grouping: Grouping,
    how: Resampling,
) -> PairedComparison:
    """Return the mean difference of the prompts of two groups that another column pairs.

    The mean of each prompt counts once; the intervals are over pairs.

    Args:
        folder: the folder.
        lens, value: the column of values.
        column: an input column of two values: the two groups.
        pair_by: an input column whose value both prompts of a pair share.
        grouping: of the rows.
        how: how intervals are made.

    Raises:
        ScopeError: the columns do not make pairs.
    """
    sides, pairs, left_out = _prompt_pairs(folder, column, pair_by)
    clusters = folder.clusters(lens)
    parts: list[tuple[Ints, Ints, Floats]] = []
    for line, table in folder.tables(lens, (value, *grouping.columns)):
        cluster = cluster_of(line, clusters, folder.shown)
        values = finite(table.column(value))
        codes = grouping.codes(line, table)
        values[codes < 0] = np.nan
        parts.append(_prompt_means(cluster, codes, values))
        parts.append(_prompt_means(cluster, np.full(len(line), -1), values))
    cluster, code, mean = (
        np.concatenate(parts_of_column) for parts_of_column in zip(*parts, strict=True)
    )
    listed = zip(cluster.tolist(), code.tolist(), mean.tolist(), strict=True)
    of = {(at, group): mean_of for at, group, mean_of in listed}
    place = {line: at for at, line in enumerate(clusters.tolist())}
    groups = sorted(set(code.tolist()))
    rows: dict[str, list[Any]] = {"pair": [], "group": [], "a": [], "b": []}
    for at, (first, second) in enumerate(pairs):
        for group in groups:
            first_mean, two = (of.get((place.get(line, -1), group)) for line in (first, second))
            if first_mean is None or two is None:
                left_out += 2 * (group == -1)
                continue
            for name, item in zip(rows, (at, group, first_mean, two), strict=True):
                rows[name].append(item)
    pair, group = np.array(rows["pair"], np.int64), np.array(rows["group"], np.int64)
    a, b = np.array(rows["a"], float), np.array(rows["b"], float)
    total = group == -1
    if not total.any():
        raise ScopeError(
            f"no two prompts are paired by {display_text(pair_by)}", f"another {option('pair-by')}"
        )
    used, pair = np.unique(pair[total]), pair
    draws = how.draws(len(used))
    index = np.searchsorted(used, pair)
    every = Grouping(folder, lens, (), how.ranges)
    zeros = np.zeros(int(total.sum()), np.int64)
    difference = ClusteredMeans(draws)
    difference.add(index[total], zeros, (a - b)[total])
    positive = ClusteredMeans(draws)
    positive.add(index[total], zeros, ((a - b)[total] > 0).astype(float))
    unit = folder.table(lens).columns[value].unit
    breakdown = None
    if grouping.by:
        grouped = ClusteredMeans(draws, studentized=True)
        grouped.add(index[~total], group[~total], (a - b)[~total])
        estimated = estimates(grouped, grouping, how, corrected=True)
        about = (lens, value, unit, grouping.by, grouping.ordered, tuple(estimated))
        breakdown = Breakdown(*about, difference=True)
    return PairedComparison(
        *(lens, value, unit),
        *(f"{column} {sides[0]}", f"{column} {sides[1]}"),
        "prompts",
        estimates(difference, every, how)[0],
        float(a[total].mean()),
        float(b[total].mean()),
        estimates(positive, every, how)[0],
        left_out,
        breakdown,
    )


def check_prompts(folder: BatchTables, other: BatchTables) -> None:
    """Check that the prompts which both folders have are the same.

    Raises:
        ScopeError: a prompt differs, or the folders have no prompt in common.
    """
    lines, texts = folder.prompt_column("prompt")
    mine = dict(zip(lines.tolist(), map(hash, texts.to_pylist()), strict=True))
    lines, texts = other.prompt_column("prompt")
    common = 0
    for line, text in zip(lines.tolist(), texts.to_pylist(), strict=True):
        if line in mine:
            common += 1
            if mine[line] != hash(text):
                raise ScopeError(
                    f"line {line} is another prompt in {other.shown}",
                    "two batches of the same prompt file",
                )
    if not common:
        raise ScopeError(
            f"{folder.shown} and {other.shown} have no prompt in common",
            "two batches of the same prompt file",
        )


def _positive(cluster: Ints, difference: Floats) -> tuple[Ints, Ints, Floats]:
    """Return for each cluster whether its mean difference is above 0, as rows."""
    at, code, mean = _prompt_means(cluster, np.zeros(len(cluster), np.int64), difference)
    return at, code, (mean > 0).astype(np.float64)


def _prompt_means(cluster: Ints, code: Ints, values: Floats) -> tuple[Ints, Ints, Floats]:
    """Return cluster, group and mean of the rows of each cluster and group."""
    valid = ~np.isnan(values)
    rows, inverse = np.unique(
        np.stack([cluster[valid], code[valid]], axis=1), axis=0, return_inverse=True
    )
    inverse = inverse.reshape(-1)
    sums = np.bincount(inverse, values[valid], len(rows))
    counts = np.bincount(inverse, minlength=len(rows))
    return rows[:, 0], rows[:, 1], sums / counts


def _prompt_pairs(
    folder: BatchTables, column: str, pair_by: str
) -> tuple[tuple[Label, Label], list[tuple[int, int]], int]:
    """Return the two values of a column, the lines of the pairs, and how many prompts have none."""
    inputs = folder.prompts.inputs
    for name in (column, pair_by):
        if name not in inputs:
            raise unknown("the prompts have no column", name, inputs)
    lines, values = folder.prompt_column(column)
    sides, side = distinct_labels(column, values)
    known = sorted({side for side in sides if side is not None}, key=str)
    if len(known) != 2:
        raise ScopeError(
            f"{display_text(column)} has {len(known)} values: pairs need two",
            f"another {option('versus-column')}",
        )
    other_lines, shared = folder.prompt_column(pair_by)
    names, code = distinct_labels(pair_by, shared)
    paired_by = dict(zip(other_lines.tolist(), code.tolist(), strict=True))
    by_pair: dict[int, dict[Label, int]] = {}
    for line, at in zip(lines.tolist(), side.tolist(), strict=True):
        pair = paired_by[line]
        if names[pair] is None or sides[at] is None:
            continue
        pair_of = by_pair.setdefault(pair, {})
        if sides[at] in pair_of:
            raise ScopeError(
                f"{display_text(pair_by)} pairs more than one prompt of "
                f"{display_text(column)} {display_text(str(sides[at]))}",
                "a column whose value two prompts share",
            )
        pair_of[sides[at]] = line
    pairs = [
        (sides_of_pair[known[0]], sides_of_pair[known[1]])
        for sides_of_pair in by_pair.values()
        if len(sides_of_pair) == 2
    ]
    return (known[0], known[1]), pairs, len(lines) - 2 * len(pairs)


def _files_by_line(folder: BatchTables, files: Sequence[str]) -> dict[int, str]:
    """Return the file that holds the rows of each prompt."""
    by_line: dict[int, str] = {}
    for file in files:
        name = f"{PROMPTS}/{file.rpartition('/')[2]}"
        lines = whole(folder.read(name, (LINE,)), LINE, name, folder.shown)
        by_line.update(dict.fromkeys(lines.tolist(), file))
    return by_line


def _match_rows(ours: Any, theirs: Any, keys: Sequence[str], where: str) -> tuple[Ints, Ints]:
    """Return the indices of the rows of two tables that have the same keys.

    Raises:
        ScopeError: two rows of one table have the same keys.
    """
    split = len(ours)
    columns = []
    for key in keys:
        our_column, two = ours.column(key), theirs.column(key)
        both = pyarrow.chunked_array(
            [*our_column.chunks, *two.cast(our_column.type).chunks], type=our_column.type
        )
        columns.append(distinct_labels(key, both)[1])
    _, ids = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    ids = ids.reshape(-1)
    mine, other = ids[:split], ids[split:]
    for side in (mine, other):
        if len(np.unique(side)) < len(side):
            raise ScopeError(
                f"rows of {where} are not told apart by {', '.join(map(display_text, keys))}",
                f"{option('versus-column')}, which needs no keys",
            )
    _, at, partner = np.intersect1d(mine, other, assume_unique=True, return_indices=True)
    order = np.argsort(at)
    return at[order], partner[order]
