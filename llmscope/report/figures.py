"""The figures of a report, which are drawn and exported like those of any lens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmscope.draw.numbers import number
from llmscope.figure import VERIFIED, Axis, Figure, Focus, Status, Verdict
from llmscope.report.first_layer import FirstLayer
from llmscope.report.means import Breakdown, Distribution, Estimate, Resampling
from llmscope.report.paired import PairedComparison
from llmscope.report.summary import LensReport, Report
from llmscope.support.numbers import percent

RANKED = 10
"""Cells of a map that are listed, the largest first."""
MOST_BARS = 60
"""Maximum number of bars of a breakdown; the largest are kept."""
NO_VALUE = "–"
FEW = 20
"""Prompts below which intervals from resampling are too short to be relied on."""
FEW_REMARK = f"fewer than {FEW} prompts: such intervals are too short"
AT_LAST = " at the last token"
STATISTICS = ("mean", "low", "high", "min", "5 %", "25 %", "median", "75 %", "95 %", "max")


def figures(report: Report) -> list[Figure]:
    """Return the figures of all lenses, in order."""
    return [figure for lens in report.lenses for figure in lens_figures(lens, report.how)]


def plots(report: Report) -> list[Figure]:
    """Return the figures that have axes, which a picture for print can show."""
    return [figure for figure in figures(report) if figure.kind != "table"]


def lens_figures(lens: LensReport, how: Resampling) -> list[Figure]:
    """Return the figures of a lens: means by other columns, then all rows. Titles name the lens."""
    all_figures = [] if lens.first is None else [_first(lens.first)]
    for breakdown in lens.breakdowns:
        all_figures += breakdown_figures(breakdown, how)
    for comparison in lens.comparisons:
        all_figures.append(_comparison(comparison, how))
        if comparison.breakdown is not None:
            title = f"{comparison.a} − {comparison.b}: {comparison.value}"
            all_figures += breakdown_figures(comparison.breakdown, how, title)
    if lens.distributions:
        all_figures.append(_numbers(lens.lens, lens.distributions))
    verdict, name = _verdict(lens), f"{lens.lens}: "
    return [
        replace(figure, verdict=verdict, title=f"{name}{figure.title.removeprefix(name)}")
        for figure in all_figures
    ]


def _verdict(lens: LensReport) -> Verdict:
    """Return the verdict of all prompts: the worst of those that were not refused."""
    doubts: tuple[Status, ...] = ("unverified", "partial")
    for status in doubts:
        if lens.statuses.get(status):
            return Verdict(status, f"{lens.statuses[status]:,} of {lens.prompts:,} prompts")
    return VERIFIED


def breakdown_figures(breakdown: Breakdown, how: Resampling, title: str = "") -> list[Figure]:
    """Return the means by one column as bars; by two as a map, and its largest cells as bars."""
    title = f"{title or breakdown.value}{AT_LAST * breakdown.last}"
    by = ", ".join(breakdown.by)
    if len(breakdown.by) == 2:
        listed = breakdown.ranked[:RANKED]
        name = ".".join(breakdown.by)
        return [
            _map(breakdown, f"{title} by {by}", how),
            _bars(breakdown, listed, f"{title}, largest by {by}", name, how),
        ]
    estimates = breakdown.estimates
    if len(estimates) > MOST_BARS:
        largest = {kept_one.labels for kept_one in breakdown.ranked[:MOST_BARS]}
        estimates = tuple(each for each in estimates if each.labels in largest)
        title = f"{title}, {MOST_BARS} largest of {len(breakdown.estimates)}"
    ordered = all(breakdown.ordered) and len(breakdown.by) == 1 and len(estimates) > 2
    return [_bars(breakdown, estimates, f"{title} by {by}", by, how, ordered=ordered)]


def strongest(figures: Sequence[Figure]) -> Focus:
    """Return where the largest value of the first map of layers and heads is."""
    for figure in figures:
        if [axis.name for axis in figure.axes] == ["layer", "head"]:
            best = int(np.nanargmax(np.abs(figure.values)))
            row, column = np.unravel_index(best, figure.values.shape)
            labels = figure.axes[0].labels[row], figure.axes[1].labels[column]
            if all(label.isdecimal() for label in labels):
                return Focus(layer=int(labels[0]), head=int(labels[1]))
    return Focus()


def interval_text(estimate: Estimate, unit: str = "") -> str:
    """Return an interval and the number of prompts, as in `[0.40, 0.44] n=200`."""
    low, high = (math.nan if end is None else end for end in (estimate.low, estimate.high))
    return ends_text(low, high, estimate.prompts, unit)


def ends_text(low: float, high: float, prompts: int, unit: str = "") -> str:
    """Return an interval and its number of prompts, such as `[0.40, 0.44] n=200`.

    Only `n=200` if `low` is NaN.
    """
    ends = f"[{value_text(low, unit)}, {value_text(high, unit)}] " if low == low else ""
    return f"{ends}n={prompts:,}"


def value_text(value: float, unit: str = "") -> str:
    """Return a number as text, a probability in percent."""
    if math.isnan(value):
        return NO_VALUE
    return percent(value) if unit == "probability" and value >= 0 else number(value)


def marks(estimate: Estimate) -> str:
    """Return ** where the corrected interval excludes 0, * where only its own does."""
    return "**" if estimate.corrected else "*" if estimate.nonzero else ""


def label_text(labels: Sequence[object]) -> str:
    """Return the labels of a group as one text; numbers are joined by a point, as heads are."""
    counted = all(isinstance(label, int) and label >= 0 for label in labels)
    return ("." if counted else " · ").join(
        NO_VALUE if label is None else str(label) for label in labels
    )


def level_text(how: Resampling) -> str:
    """Return what the intervals are."""
    return f"{100 * how.level:g} % interval over prompts"


def _ends(estimates: Sequence[Estimate]) -> dict[str, np.ndarray]:
    low = [np.nan if estimate.low is None else estimate.low for estimate in estimates]
    high = [np.nan if estimate.high is None else estimate.high for estimate in estimates]
    return {
        "low": np.array(low),
        "high": np.array(high),
        "prompts": np.array([estimate.prompts for estimate in estimates]),
        "rows": np.array([estimate.rows for estimate in estimates]),
    }


def _bars(
    breakdown: Breakdown,
    estimates: Sequence[Estimate],
    title: str,
    axis: str,
    how: Resampling,
    *,
    ordered: bool = False,
) -> Figure:
    beside = [f"{interval_text(each, breakdown.unit)} {marks(each)}".rstrip() for each in estimates]
    return Figure(
        lens=breakdown.lens,
        title=f"{title} · mean, {level_text(how)}",
        kind="bars",
        axes=(Axis(axis, tuple(label_text(each.labels) for each in estimates)),),
        values=np.array([each.mean for each in estimates], np.float32),
        unit=breakdown.unit,
        extra={
            **_ends(estimates),
            "beside": beside,
            "ordered": ordered,
            "chosen": None,
            **_effect(breakdown, estimates),
        },
    )


def _effect(breakdown: Breakdown, estimates: Sequence[Estimate]) -> dict[str, object]:
    if not breakdown.difference:
        return {}
    return {
        "change": True,
        "nonzero": np.array([bool(each.nonzero) for each in estimates]),
        "corrected": np.array([bool(each.corrected) for each in estimates]),
    }


def _map(breakdown: Breakdown, title: str, how: Resampling) -> Figure:
    rows = list(dict.fromkeys(each.labels[0] for each in breakdown.estimates))
    known = {each.labels[1] for each in breakdown.estimates}
    columns = [label for label in _in_order(breakdown, 1) if label in known]
    shape = len(rows), len(columns)
    arrays = {name: np.full(shape, np.nan) for name in ("mean", "low", "high")}
    prompts, nonzero, corrected = (np.zeros(shape, kind) for kind in (np.int64, bool, bool))
    for each in breakdown.estimates:
        at = rows.index(each.labels[0]), columns.index(each.labels[1])
        arrays["mean"][at] = each.mean
        arrays["low"][at] = np.nan if each.low is None else each.low
        arrays["high"][at] = np.nan if each.high is None else each.high
        prompts[at], nonzero[at], corrected[at] = each.prompts, bool(each.nonzero), each.corrected
    extra: dict[str, object] = {"low": arrays["low"], "high": arrays["high"], "prompts": prompts}
    if breakdown.difference:
        count = len(breakdown.estimates)
        extra |= {"change": True, "nonzero": nonzero, "corrected": corrected, "marked": corrected}
        extra["caption"] = (
            f"* differs from 0 at the {100 * how.level:g} % level after the correction for "
            f"{count} cells (max-T): {corrected.sum()}; without it {nonzero.sum()}",
            *((FEW_REMARK,) if prompts.max() < FEW else ()),
        )
    fewest, largest = int(prompts[prompts > 0].min()), int(prompts.max())
    named = f"n={largest:,}" if fewest == largest else f"n={fewest:,}–{largest:,}"
    return Figure(
        lens=breakdown.lens,
        title=f"{title} · mean, {named}{', marked where not 0' * breakdown.difference}",
        kind="heatmap",
        axes=(
            Axis(breakdown.by[0], tuple(label_text([label]) for label in rows)),
            Axis(breakdown.by[1], tuple(label_text([label]) for label in columns)),
        ),
        values=arrays["mean"].astype(np.float32),
        unit=breakdown.unit,
        extra=extra,
    )


def _in_order(breakdown: Breakdown, place: int) -> list[object]:
    """Return the labels of one column in the order of the groups of the fullest row."""
    rows: dict[object, list[object]] = {}
    for each in breakdown.estimates:
        rows.setdefault(each.labels[1 - place], []).append(each.labels[place])
    order: list[object] = []
    for row in sorted(rows.values(), key=len, reverse=True):
        order += [label for label in row if label not in order]
    whole = [label for label in order if isinstance(label, int)]
    return [*sorted(whole)] if len(whole) == len(order) else order


def _first(first: FirstLayer) -> Figure:
    estimates = [*first.layers, first.never]
    median = "" if first.median is None else f"; half by layer {first.median:g}"
    return Figure(
        lens=first.lens,
        title=f"the answer is first from this layer on · share of prompts{median}",
        kind="bars",
        axes=(Axis("layer", tuple(label_text(estimate.labels) for estimate in estimates)),),
        values=np.array([estimate.mean for estimate in estimates], np.float32),
        unit="probability",
        extra={
            **_ends(estimates),
            "beside": [interval_text(estimate, "probability") for estimate in estimates],
            "chosen": None,
            "without_target": first.without,
        },
    )


def _numbers(lens: str, distributions: Sequence[Distribution]) -> Figure:
    rows = []
    for distribution in distributions:
        ends = [
            np.nan if end is None else end for end in (distribution.all.low, distribution.all.high)
        ]
        rows.append([distribution.all.mean, *ends, *distribution.quantiles])
    return Figure(
        lens=lens,
        title=f"{lens}: {max(distribution.all.rows for distribution in distributions):,} rows of "
        f"{max(distribution.all.prompts for distribution in distributions):,} prompts",
        kind="table",
        axes=(
            Axis("rows", STATISTICS),
            Axis("column", tuple(distribution.value for distribution in distributions)),
        ),
        values=np.array(rows, np.float32).T,
        unit="",
        extra={"units": [distribution.unit for distribution in distributions]},
    )


def _comparison(comparison: PairedComparison, how: Resampling) -> Figure:
    return Figure(
        lens=comparison.lens,
        title=f"{comparison.a} − {comparison.b}: {comparison.value} · mean difference of "
        f"{comparison.difference.rows:,} pairs, {level_text(how)}",
        kind="bars",
        axes=(Axis("column", (comparison.value,)),),
        values=np.array([comparison.difference.mean], np.float32),
        unit=comparison.unit if comparison.unit != "probability" else "difference of probabilities",
        extra={
            **_ends([comparison.difference]),
            "beside": [interval_text(comparison.difference)],
            "chosen": None,
            "change": True,
            "mean_a": comparison.mean_a,
            "mean_b": comparison.mean_b,
            "positive": comparison.positive.mean,
            "left_out": comparison.left_out,
            "caption": (
                f"A {value_text(comparison.mean_a)}, B {value_text(comparison.mean_b)}; above 0 in "
                f"{percent(comparison.positive.mean)} of {comparison.positive.prompts:,} prompts; "
                f"{comparison.left_out:,} {comparison.pairs_are} left out",
            ),
        },
    )
