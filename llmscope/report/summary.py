"""What a report of a batch holds: all lenses by their own keys, or what the user asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.figure import plain
from llmscope.figure.tables.arrow import FROM_END
from llmscope.report.first_layer import FirstLayer, first_layer, has_ranks
from llmscope.report.groups import POSITION, Grouping, groups_by
from llmscope.report.means import (
    QUANTILES,
    Breakdown,
    Distribution,
    Resampling,
    measure_means,
)
from llmscope.report.paired import (
    PairedComparison,
    compare_paired,
    of_columns,
    of_folders,
    of_paired_prompts,
)
from llmscope.report.reader import BatchTables, LensTable, unknown
from llmscope.support.text import display_text, quoted_text

SCHEMA = 1
CAUSAL = ("ablation", "patching", "attribution")
"""Lenses whose values are effects: how far from 0 they are is the question."""
EFFECTS = ("effect", "contribution")
CLASS = "class"


@dataclass(frozen=True)
class ReportRequest:
    """What the user asks for.

    Attributes:
        lenses: names; empty: all.
        values: columns; empty: all of each lens.
        by: columns that make the groups; empty: the keys of each lens.
        versus: another folder that is compared with; None: no comparison.
        versus_column: a column that the value is compared with; with `pair_by`, an input column of
            two values, which are compared. None: no comparison.
        pair_by: an input column whose value two prompts share; None: rows are paired.
        last: the rows of the last token of each prompt alone.
        how: how intervals are made.
    """

    lenses: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    versus: str | None = None
    versus_column: str | None = None
    pair_by: str | None = None
    last: bool = False
    how: Resampling = field(default_factory=Resampling)


@dataclass(frozen=True)
class LensReport:
    """The statistics of a lens.

    Attributes:
        lens, mode: the lens.
        prompts: how many prompts it has rows of.
        statuses: the number of prompts by status of their verdicts.
        reason: the most frequent reason of a refusal; empty if nothing was refused.
        distributions: one for each column of values.
        breakdowns: means by other columns.
        first: at which layer the answer becomes first; None for other lenses.
        comparisons: of pairs.
    """

    lens: str
    mode: str
    prompts: int
    statuses: Mapping[str, int]
    reason: str
    distributions: tuple[Distribution, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    first: FirstLayer | None = None
    comparisons: tuple[PairedComparison, ...] = ()


@dataclass(frozen=True)
class Report:
    """The statistics of a folder.

    Attributes:
        folder: its name, safe to print.
        model: the model's name; empty if it is not known.
        complete: whether the batch came to its end.
        stopped: how much is there of a batch that did not; empty if it did.
        prompts, failed: how many there are.
        error: the most frequent error of those that failed; empty if none failed.
        how: how intervals were made.
        lenses: by lens.
        other: the folder that was compared with; empty without one.
    """

    folder: str
    model: str
    complete: bool
    prompts: int
    failed: int
    error: str
    how: Resampling
    lenses: tuple[LensReport, ...]
    other: str = ""
    stopped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers as JSON types."""
        record: dict[str, Any] = plain(asdict(self))
        how = record.pop("how")
        intervals = {
            "method": "percentile bootstrap over prompts",
            "correction": "single-step max-T over the groups of a breakdown",
            **{name: how[name] for name in ("resamples", "level", "seed")},
        }
        for lens in record["lenses"]:
            for distribution in lens["distributions"]:
                distribution["quantiles"] = dict(
                    zip(map(str, QUANTILES), distribution["quantiles"], strict=True)
                )
        return {"schema": SCHEMA, "intervals": intervals, **record}


def report(place: str, question: ReportRequest) -> Report:
    """Return the statistics of a folder.

    Args:
        place: the folder's path or URL.
        question: what is asked for.

    Raises:
        ScopeError: a folder is damaged, or lacks what is asked for.
    """
    folder = BatchTables(place)
    other = None if question.versus is None else BatchTables(question.versus)
    prompts = folder.prompts
    tables = [folder.table(lens) for lens in question.lenses or folder.lenses]
    if other is not None and not question.lenses:
        tables = [table for table in tables if table.lens in other.lenses]
        if not tables:
            raise ScopeError(f"{folder.shown} and {other.shown} share no lens", "another folder")
    lenses = []
    for table in _having(tables, question.values, question.by, named=bool(question.lenses)):
        lens_report = _lens_report(folder, other, table, question)
        if lens_report is not None:
            lenses.append(lens_report)
    compares = other is not None or question.versus_column is not None
    if not (question.lenses or question.values or question.by or compares):
        for lens in folder.without_table:
            refusals = folder.refusals(lens)
            lenses.append(LensReport(lens, "", 0, dict(refusals.statuses), refusals.reason))
    if not any(lens_report.prompts for lens_report in lenses):
        raise ScopeError(
            f"{folder.shown} has no column of numbers",
            f"{option('lens', 'NAME')} {option('value', 'COLUMN')}",
        )
    return Report(
        *(folder.shown, folder.model, folder.complete),
        *(len(prompts.lines), prompts.failed, prompts.error),
        question.how,
        tuple(lenses),
        "" if other is None else other.shown,
        folder.stopped,
    )


def default_groupings(table: LensTable) -> list[tuple[str, ...]]:
    """Return the columns that the means of a lens are told by, if the user names none."""
    keys = table.having("key")
    texts = [key for key in keys if not table.columns[key].numeric]
    second = next((name for name in ("head", *texts) if name in keys), None)
    if "layer" in keys and second is not None:
        return [("layer", second)]
    if "layer" in keys and FROM_END.name in keys and table.lens in CAUSAL:
        return [("layer", FROM_END.name)]
    if "layer" in keys:
        return [("layer",)]
    if texts:
        return [(texts[0],)]
    groupings: list[tuple[str, ...]] = [(CLASS,)] if CLASS in table.columns else []
    axes = ("rank", POSITION, *(() if POSITION in keys else ("query", "key")))
    groupings += [(axis,) for axis in axes if axis in keys][:1]
    return groupings or [(key,) for key in keys[:1]]


def is_effect(table: LensTable, value: str) -> bool:
    """Return whether a value is an effect of either sign, whose distance from 0 is the question."""
    return (table.lens in CAUSAL or value in EFFECTS) and not table.mode.endswith("kl")


def _having(
    tables: Sequence[LensTable], values: Sequence[str], by: Sequence[str], *, named: bool
) -> list[LensTable]:
    """Return the tables that have the columns asked for.

    Raises:
        ScopeError: no table has one of them, or a table that was named lacks it.
    """
    for name in values:
        among = [table for table in tables if name in table.columns]
        if not among or (named and len(among) < len(tables)):
            lacking = next(table for table in tables if name not in table.columns)
            known = list(lacking.values) if named else [v for table in tables for v in table.values]
            raise unknown(f"{_of(tables, lacking, named)} no column", name, known)
        numeric = [candidate for candidate in among if candidate.columns[name].numeric]
        if not numeric:
            raise ScopeError(
                f"{display_text(name)} of {display_text(among[0].lens)} holds no numbers",
                ", ".join(map(display_text, among[0].values)) or f"another {option('value')}",
            )
        tables = numeric
    if not named:
        fitting = [table for table in tables if all(groups_by(table, name) for name in by)]
        tables = fitting or tables  # those that do not fit refuse it, with the nearest name
    return list(tables)


def _of(tables: Sequence[LensTable], lacking: LensTable, named: bool) -> str:
    if named or len(tables) == 1:
        return f"the table of {display_text(lacking.lens)} has"
    return "the tables have"


def _lens_report(
    folder: BatchTables, other: BatchTables | None, table: LensTable, question: ReportRequest
) -> LensReport | None:
    lens, how = table.lens, question.how
    values = question.values or table.values
    if not values:
        if question.lenses:
            raise ScopeError(
                f"the table of {lens} has no column of numbers", f"another {option('lens')}"
            )
        return None
    refusals = folder.refusals(lens)
    about = LensReport(
        *(lens, table.mode, len(folder.clusters(lens))), dict(refusals.statuses), refusals.reason
    )
    if other is not None or question.versus_column is not None:
        comparisons = [_comparison(folder, other, table, value, question) for value in values]
        return replace(about, comparisons=tuple(comparisons))
    wanted = [question.by] if question.by else default_groupings(table)
    # What a lens says of the target at earlier tokens is of another continuation.
    last = question.last or (
        not question.by and has_ranks(table) and FROM_END.name in table.columns
    )
    distributions, breakdowns = list[Distribution](), list[Breakdown]()
    for effect in (False, True):
        values_alike = [value for value in values if is_effect(table, value) == effect]
        if values_alike:
            groupings = [Grouping(folder, lens, by, how.ranges, last=last) for by in wanted]
            ours, theirs = measure_means(
                folder, lens, values_alike, groupings, how, corrected=effect, last=question.last
            )
            distributions += ours
            breakdowns += [
                breakdown for breakdown in theirs if question.by or not breakdown.constant
            ]
    first = None
    if (
        has_ranks(table)
        and not question.by
        and (not question.values or "rank_target" in question.values)
    ):
        first = first_layer(folder, lens, how)
    named = question.values if question.lenses else ()
    empty = [
        value
        for value in named
        if value not in {distribution.value for distribution in distributions}
    ]
    if empty:
        raise ScopeError(
            f"{', '.join(map(display_text, empty))} of {display_text(lens)} holds no value",
            ", ".join(map(display_text, [distribution.value for distribution in distributions]))
            or f"another {option('value')}",
        )
    if question.lenses and not distributions:
        raise ScopeError(
            f"the table of {display_text(lens)} holds no value", f"another {option('lens')}"
        )
    return replace(
        about, distributions=tuple(distributions), breakdowns=tuple(breakdowns), first=first
    )


def _comparison(
    folder: BatchTables,
    other: BatchTables | None,
    table: LensTable,
    value: str,
    question: ReportRequest,
) -> PairedComparison:
    lens, how, column = table.lens, question.how, question.versus_column
    grouping = Grouping(folder, lens, question.by, how.ranges, last=question.last)
    if other is not None:
        rows = of_folders(folder, other, lens, value, grouping.columns)
        theirs = set(other.clusters(lens).tolist())
        clusters = folder.clusters(lens)
        clusters = clusters[[line in theirs for line in clusters.tolist()]]
        names = lens, value, folder.shown, other.shown
        return compare_paired(folder, rows, grouping, clusters, how, names)
    assert column is not None
    if question.pair_by is not None:
        return of_paired_prompts(folder, lens, value, column, question.pair_by, grouping, how)
    if column not in table.columns:
        raise unknown(f"the table of {display_text(lens)} has no column", column, table.values)
    if not table.columns[column].numeric:
        raise ScopeError(
            f"{quoted_text(column)} holds no numbers: its values can be compared as groups of "
            "paired prompts",
            option("pair-by", "COLUMN"),
        )
    rows = of_columns(folder, lens, value, column, grouping.columns)
    names = lens, value, value, column
    return compare_paired(folder, rows, grouping, folder.clusters(lens), how, names)
