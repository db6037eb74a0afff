"""The report of a batch as text for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from llmscope.cli.output.table import table
from llmscope.draw.numbers import number
from llmscope.export import AUTO, Size, render
from llmscope.export.fitted import WIDTH, fitted_height
from llmscope.report.figures import (
    AT_LAST,
    FEW,
    FEW_REMARK,
    RANKED,
    breakdown_figures,
    interval_text,
    label_text,
    marks,
    strongest,
    value_text,
)
from llmscope.report.first_layer import FirstLayer
from llmscope.report.groups import Label
from llmscope.report.means import Breakdown, Distribution, Estimate
from llmscope.report.paired import PairedComparison
from llmscope.report.summary import LensReport, Report
from llmscope.support.numbers import percent
from llmscope.support.text import display_line, display_text, one_line

LISTED, ORDERED = 24, 96
"""Groups of a breakdown that are listed, and of one with an order; json and csv have all."""
BESIDE = 3
"""Columns of values beside each other."""


def report_text(report: Report, size: Size = AUTO) -> str:
    """Return a report as text.

    Args:
        report: the report.
        size: of each map in cells; `auto` fits it to its columns and rows; None fits it to its
            rows, as wide as pictures on a terminal are.
    """
    how = report.how
    of = f" of {report.model}" if report.model else ""
    words = [f"{_count(report.prompts, 'prompt')}{of}"]
    if report.failed:
        words.append(f"{report.failed:,} failed, most often: {one_line(report.error, 100)}")
    if report.stopped:
        words.append(report.stopped)
    text = f"{report.folder}: {display_text('; '.join(words))}\n"
    if report.other:
        text += f"compared with {report.other}\n"
    text += (
        f"intervals: {100 * how.level:g} %, bootstrap over prompts, {how.resamples:,} resamples, "
        f"seed {how.seed}\n"
    )
    return text + "".join(f"\n{_lens(lens, report, size)}" for lens in report.lenses)


def _lens(lens: LensReport, report: Report, size: Size) -> str:
    words = [_count(lens.prompts, "prompt")]
    if 0 < lens.prompts < FEW:
        words.append(f"note: {FEW_REMARK}")
    for status, count in sorted(lens.statuses.items()):
        why = f" ({one_line(lens.reason, 100)})" if status == "refused" and lens.reason else ""
        if status != "verified":
            words.append(f"{count:,} {status}{why}")
    mode = f" {lens.mode}" if lens.mode else ""
    text = display_line(f"── {lens.lens}{mode}: {', '.join(words)}") + "\n"
    if lens.distributions:
        text += _distributions(lens.distributions)
    if lens.first is not None:
        text += _first(lens.first)
    for same in _alike(lens.breakdowns):
        if len(same) == 1 and len(same[0].by) == 2:
            text += _map(same[0], report, size)
        else:
            text += _breakdown(same[0]) if len(same) == 1 else _together(same)
    for comparison in lens.comparisons:
        text += _comparison(comparison)
    return text


def _distributions(distributions: Sequence[Distribution]) -> str:
    rows = [("", "mean", "interval", "median", "5 % – 95 %", "rows", "no value")]
    for distribution in distributions:
        low, median, high = (
            distribution.quantiles[1],
            distribution.quantiles[3],
            distribution.quantiles[5],
        )
        rows.append(
            (
                f"{distribution.value}{_unit(distribution.unit, distribution.value)}",
                value_text(distribution.all.mean),
                interval_text(distribution.all),
                ("~" if distribution.sampled else "") + number(median),
                f"{number(low)} – {number(high)}",
                f"{distribution.all.rows:,}",
                f"{distribution.missing:,}",
            )
        )
    text = table(rows, frozenset({1, 3, 5, 6}))
    over = distributions[0].over
    if over:
        counts = [_count(count, name) for name, count in over.items()]
        listed = " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))
        bound = "up to " if "position" in over else ""
        text += f"the mean is over {bound}{listed} of each prompt{_narrower(distributions, over)}\n"
    return text


def _narrower(distributions: Sequence[Distribution], over: Mapping[str, int]) -> str:
    """Return what gives one number for each prompt; empty if nothing is known."""
    ways = ["--last is the last token alone"] if "position" in over else []
    if any(distribution.value == "p_target" for distribution in distributions) and "layer" in over:
        ways.append("the model's own p_target is that of --lens next-token")
    return f": {'; '.join(ways)}" if ways else ""


def _first(first: FirstLayer) -> str:
    text = f"\nthe answer is first from layer … on (of {_count(first.never.prompts, 'prompt')}"
    text += f", {first.without:,} without a target)\n" if first.without else ")\n"
    rows = [_row(layer, "probability") for layer in (*first.layers, first.never) if layer.rows]
    text += table(rows, frozenset({0, 1}))
    return (
        text
        if first.median is None
        else f"{text}half of those that get there: by layer " + (f"{first.median:g}\n")
    )


def _alike(breakdowns: Sequence[Breakdown]) -> list[list[Breakdown]]:
    """Return the breakdowns, those of several values by the same columns together."""
    alike: list[list[Breakdown]] = []
    for breakdown in breakdowns:
        fitting = None
        if len(breakdown.by) == 1 and not breakdown.difference:
            fitting = next((same for same in alike if _fits(breakdown, same)), None)
        if fitting is None:
            alike.append([breakdown])
        else:
            fitting.append(breakdown)
    return alike


def _fits(breakdown: Breakdown, same: Sequence[Breakdown]) -> bool:
    first = same[0]
    return (breakdown.by, breakdown.last, first.difference) == (first.by, first.last, False) and (
        len(same) < BESIDE
        and len(breakdown.estimates) <= (ORDERED if all(breakdown.ordered) else LISTED)
    )


def _together(same: Sequence[Breakdown]) -> str:
    """Return the means of several values by one column beside each other."""
    labels = _sort_labels(
        list(dict.fromkeys(each.labels for breakdown in same for each in breakdown.estimates))
    )
    known = [{each.labels: each for each in breakdown.estimates} for breakdown in same]
    rows = [
        (
            same[0].by[0],
            *(f"{breakdown.value}{_unit(breakdown.unit, breakdown.value)}" for breakdown in same),
            "n",
        )
    ]
    for group in labels:
        there = [estimates[group] for estimates in known if group in estimates]
        cells = [_with_ends(estimates[group]) if group in estimates else "" for estimates in known]
        rows.append(
            (label_text(group), *cells, f"{max(breakdown.prompts for breakdown in there):,}")
        )
    return f"\n{display_line(_by(same[0]))}\n{table(rows, frozenset({len(same) + 1}))}"


def _sort_labels(labels: list[tuple[Label, ...]]) -> list[tuple[Label, ...]]:
    """Return labels in order if they are whole numbers; else as they are."""
    numbers = {label: int(label[0]) for label in labels if isinstance(label[0], int)}
    return sorted(labels, key=numbers.__getitem__) if len(numbers) == len(labels) else labels


def _by(breakdown: Breakdown) -> str:
    return f"means by {', '.join(breakdown.by)}{AT_LAST * breakdown.last}"


def _with_ends(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return value_text(estimate.mean)
    return f"{value_text(estimate.mean)} [{value_text(estimate.low)}, {value_text(estimate.high)}]"


def _breakdown(breakdown: Breakdown, what: str = "") -> str:
    estimates: Sequence[Estimate] = breakdown.estimates
    title = f"{what or breakdown.value}{_unit(breakdown.unit, breakdown.value)} by "
    title += ", ".join(breakdown.by)
    title += AT_LAST * breakdown.last
    if len(estimates) > (ORDERED if all(breakdown.ordered) else LISTED):
        estimates = breakdown.ranked[:LISTED]
        title += f", the {LISTED} largest of {len(breakdown.estimates):,}"
    rows = [_row(each) for each in estimates]
    return f"\n{display_line(title)}\n{table(rows, frozenset({1}))}"


def _map(breakdown: Breakdown, report: Report, size: Size) -> str:
    """Return the map of two columns as drawn, and its largest cells."""
    picture = breakdown_figures(breakdown, report.how)[0]
    cells = (WIDTH, fitted_height(picture, WIDTH)) if size is None else size
    drawn = render(picture, "txt", size=cells, focus=strongest([picture]))
    assert isinstance(drawn, str)
    listed = breakdown.ranked[:RANKED]
    rows = [_row(each) for each in listed]
    remark = "; ** after the correction for all, * without" if breakdown.difference else ""
    title = f"largest {breakdown.value}{_unit(breakdown.unit)} by {', '.join(breakdown.by)}{remark}"
    return f"\n{drawn}{display_line(title)}\n{table(rows, frozenset({1}))}"


def _comparison(comparison: PairedComparison) -> str:
    rows = [
        ("A", comparison.a, value_text(comparison.mean_a)),
        ("B", comparison.b, value_text(comparison.mean_b)),
        ("A − B", interval_text(comparison.difference), number(comparison.difference.mean)),
    ]
    title = display_line(comparison.value + _unit(comparison.unit))
    text = f"\n{title}\n{table(rows, frozenset({2}))}"
    unit = "prompts" if comparison.pairs_are == "rows" else "pairs of prompts"
    share = percent(comparison.positive.mean)
    text += (
        f"{comparison.difference.rows:,} pairs of {comparison.pairs_are}, "
        f"{comparison.left_out:,} {comparison.pairs_are} left out; "
        f"A is above B in {share} of {comparison.positive.prompts:,} {unit}\n"
    )
    if comparison.breakdown is not None:
        text += _breakdown(comparison.breakdown, f"A − B: {comparison.value}")
    return text


def _row(estimate: Estimate, unit: str = "") -> tuple[str, str, str, str]:
    return (
        label_text(estimate.labels),
        value_text(estimate.mean, unit),
        interval_text(estimate, unit),
        marks(estimate),
    )


def _unit(unit: str, name: str = "") -> str:
    return f", {unit}" if unit not in ("", "probability", name) else ""


def _count(number_of: int, noun: str) -> str:
    return f"{number_of:,} {noun}{'s' * (number_of != 1)}"


COLUMNS = (
    *("lens", "column", "unit", "by", "group", "mean", "low", "high", "prompts", "rows"),
    *("differs_from_0", "corrected"),
)


def report_csv(report: Report) -> str:
    """Return all means of a report as CSV, one row each; texts that a spreadsheet might run get '.

    Empty cells are values that do not exist.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for lens in report.lenses:
        for whole in lens.distributions:
            writer.writerow(_cells(whole.lens, whole.value, whole.unit, (), whole.all))
        broken = [*lens.breakdowns]
        for pair in lens.comparisons:
            value = f"{pair.a} - {pair.b}: {pair.value}"
            writer.writerow(_cells(pair.lens, value, pair.unit, (), pair.difference))
            broken += [pair.breakdown] if pair.breakdown is not None else []
        for breakdown in broken:
            for each in breakdown.estimates:
                writer.writerow(
                    _cells(breakdown.lens, breakdown.value, breakdown.unit, breakdown.by, each)
                )
        if lens.first is not None:
            for each in (*lens.first.layers, lens.first.never):
                writer.writerow(
                    _cells(lens.lens, "first layer of the answer", "probability", ("layer",), each)
                )
    return stream.getvalue()


def _cells(
    lens: str, value: str, unit: str, by: Sequence[str], estimate: Estimate
) -> list[str | float | int | bool | None]:
    texts = [
        _harmless(text) for text in (lens, value, unit, ", ".join(by), label_text(estimate.labels))
    ]
    numbers = [estimate.mean, estimate.low, estimate.high, estimate.prompts, estimate.rows]
    return [*texts, *numbers, estimate.nonzero, estimate.corrected]


def _harmless(text: str) -> str:
    """Return foreign text that neither a terminal nor a spreadsheet takes as a command."""
    line = display_line(text)
    risky = line[:1] in ("=", "+", "@") or (line[:1] == "-" and not line[1:2].isdigit())
    return f"'{line}" if risky else line
