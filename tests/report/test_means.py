"""Means by groups, first layers and maps of effects, against loops over the rows."""

import math
from collections import defaultdict

import numpy as np
import pytest

from llmscope.report.first_layer import NEVER
from llmscope.report.groups import Ranges
from llmscope.report.means import Resampling, Reservoir
from llmscope.report.summary import ReportRequest, report
from llmscope.support.bootstrap import Draws
from tests.report.conftest import LAYERS, STRONG

HOW = Resampling(resamples=200, level=0.9, seed=3)


def by_hand(rows, lines, value, group, how=HOW):
    """The mean, interval, prompts and rows of each group; resamples as the report draws them."""
    weights = Draws(len(lines), resamples=how.resamples, seed=how.seed).weights(0)
    place = {line: at for at, line in enumerate(sorted(lines))}
    parts = defaultdict(list)
    for row in rows:
        if row[value] is not None:
            parts[group(row)].append((place[row["line"]], float(row[value])))
    found = {}
    for label, items in parts.items():
        drawn = []
        for draw in weights:
            total = sum(draw[at] for at, _ in items)
            if total:
                drawn.append(math.fsum(draw[at] * x for at, x in items) / total)
        clusters = len({at for at, _ in items})
        ends = np.quantile(drawn, [(1 - how.level) / 2, (1 + how.level) / 2])
        mean = math.fsum(x for _, x in items) / len(items)
        found[label] = (mean, *(ends if clusters > 1 else (None, None)), clusters, len(items))
    return found


def told(estimates):
    return {one.labels: (one.mean, one.low, one.high, one.prompts, one.rows) for one in estimates}


def check(estimates, expected):
    found = told(estimates)
    assert found.keys() == expected.keys()
    for label, numbers in expected.items():
        assert found[label] == pytest.approx(numbers, rel=1e-9), label


@pytest.fixture(scope="module")
def known(batch):
    folder, prompts, lenses = batch
    kept = [one["line"] for one in prompts if one["n_tokens"] is not None]
    return folder, {one["line"]: one for one in prompts}, lenses, kept


GROUPINGS = {
    ("class",): lambda row, of: (row["class"],),
    ("label",): lambda row, of: (of["label"],),
    ("length",): lambda row, of: (of["n_tokens"],),
    ("position",): lambda row, of: (row["position"],),
    ("from_end", "class"): lambda row, of: (row["from_end"], row["class"]),
}


@pytest.mark.parametrize("by", GROUPINGS)
def test_means_by_columns(known, by):
    folder, prompts, lenses, kept = known
    asked = ReportRequest(lenses=("tokens",), values=("surprisal",), by=by, how=HOW)
    found = report(str(folder), asked).lenses[0]
    group = GROUPINGS[by]
    expected = by_hand(
        lenses["tokens"], kept, "surprisal", lambda row: group(row, prompts[row["line"]])
    )
    check(found.breakdowns[0].estimates, expected)
    labels = [one.labels for one in found.breakdowns[0].estimates]
    assert labels == sorted(labels)
    check([found.distributions[0].all], by_hand(lenses["tokens"], kept, "surprisal", lambda _: ()))


def test_a_distribution(known):
    folder, _, lenses, _ = known
    found = (
        report(str(folder), ReportRequest(lenses=("tokens",), how=HOW)).lenses[0].distributions[0]
    )
    values = [row["surprisal"] for row in lenses["tokens"] if row["surprisal"] is not None]
    shares = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]
    assert found.quantiles == pytest.approx(np.quantile(values, shares))
    assert found.missing == sum(row["surprisal"] is None for row in lenses["tokens"])
    assert found.unit == "bits"
    assert found.sampled is None


def test_the_last_token_alone(known):
    folder, _, lenses, kept = known
    asked = ReportRequest(
        lenses=("tokens",), values=("surprisal",), by=("class",), last=True, how=HOW
    )
    found = report(str(folder), asked).lenses[0]
    rows = [row for row in lenses["tokens"] if row["from_end"] == -1]
    check(
        found.breakdowns[0].estimates,
        by_hand(rows, kept, "surprisal", lambda row: (row["class"],)),
    )
    check([found.distributions[0].all], by_hand(rows, kept, "surprisal", lambda _: ()))


def test_a_number_with_many_values_is_put_in_ranges(known):
    folder, prompts, lenses, kept = known
    asked = ReportRequest(lenses=("tokens",), values=("surprisal",), by=("size",), how=HOW)
    found = report(str(folder), asked).lenses[0].breakdowns[0]
    assert len(found.estimates) == 5
    sizes = sorted(one["size"] for one in prompts.values())
    ends = [list(map(int, one.labels[0].split("–"))) for one in found.estimates]
    assert ends[0][0] == sizes[0]
    assert ends[-1][1] == sizes[-1]
    counts = [sum(low <= size <= high for size in sizes) for low, high in ends]
    assert counts == [12] * 5

    def group(row):
        size = prompts[row["line"]]["size"]
        return next((f"{low}–{high}",) for low, high in ends if low <= size <= high)

    check(found.estimates, by_hand(lenses["tokens"], kept, "surprisal", group))


def test_ranges_of_few_values_do_not_overlap():
    values = np.array([0.0] * 90 + [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    ranges = Ranges.of(values, 5)
    assert ranges.labels == ("0", "1–10")
    assert Ranges.of(np.array([0.25, 2.5, 1, 4]), 2).labels == ("0.25–1", "2.5–4")
    assert Ranges.of(np.ones(50), 5) is None


def test_the_effects_of_heads(known):
    folder, _, lenses, kept = known
    found = report(str(folder), ReportRequest(lenses=("ablation",), how=HOW)).lenses[0]
    lines = [line for line in kept if line != 9]
    assert (found.prompts, found.statuses) == (58, {"refused": 1, "verified": 58})
    assert found.reason == "no such head"
    breakdown = found.breakdowns[0]
    assert breakdown.by == ("layer", "head")
    check(
        breakdown.estimates,
        by_hand(lenses["ablation"], lines, "effect", lambda row: (row["layer"], row["head"])),
    )
    assert breakdown.ranked[0].labels == STRONG
    for one in breakdown.estimates:
        assert one.nonzero == (one.low > 0 or one.high < 0)
        assert one.nonzero or not one.corrected
    assert [one.labels for one in breakdown.estimates if one.corrected] == [STRONG]


def test_from_which_layer_on_the_answer_is_first(known):
    folder, _, lenses, kept = known
    found = report(str(folder), ReportRequest(lenses=("logit-lens",), how=HOW)).lenses[0].first
    firsts = []
    for line in kept:
        ranks = {
            row["layer"]: row["rank_target"]
            for row in lenses["logit-lens"]
            if row["line"] == line and row["from_end"] == -1
        }
        first = NEVER
        for layer in sorted(ranks, reverse=True):
            if ranks[layer] != 1:
                break
            first = layer
        firsts.append(first)
    shares = {one.labels[0]: one.mean for one in found.layers}
    assert shares == pytest.approx(
        {layer: firsts.count(layer) / len(kept) for layer in range(-1, LAYERS)}
    )
    assert found.never.mean == pytest.approx(firsts.count(NEVER) / len(kept))
    assert found.median == np.median([one for one in firsts if one != NEVER])
    assert found.never.prompts == len(kept)
    indicators = [
        {"line": line, "x": first == NEVER} for line, first in zip(kept, firsts, strict=True)
    ]
    expected = by_hand(indicators, kept, "x", lambda _: ("never",))
    assert [found.never.low, found.never.high] == pytest.approx(list(expected[("never",)][1:3]))


def test_what_a_lens_says_of_the_target_is_told_at_the_last_token(known):
    folder, _, lenses, kept = known
    found = report(str(folder), ReportRequest(lenses=("logit-lens",), how=HOW)).lenses[0].breakdowns
    one = next(one for one in found if one.value == "p_target")
    assert one.last
    rows = [row for row in lenses["logit-lens"] if row["from_end"] == -1]
    check(one.estimates, by_hand(rows, kept, "p_target", lambda row: (row["layer"],)))


def test_a_reservoir_keeps_all_or_a_fair_sample():
    sample = Reservoir(size=1000)
    sample.add(np.arange(600.0))
    sample.add(np.arange(600.0, 900.0))
    assert sorted(sample.values()) == list(range(900))
    for _ in range(50):
        sample.add(np.arange(1000.0))
    values = sample.values()
    assert sample.count == 50_900
    assert len(values) == 1000
    assert abs(np.median(values) - 500) < 60


def test_the_order_and_sizes_of_shards_change_no_number(batch, tmp_path):
    from tests.report.folders import write_folder

    folder, prompts, lenses = batch
    order = [*prompts[40:], *prompts[:40]]
    other = write_folder(tmp_path / "other", order, lenses, refused=[("ablation", 9)], shard=7)
    one, two = (
        report(str(path), ReportRequest(how=HOW)).to_dict()["lenses"] for path in (folder, other)
    )
    for ours, theirs in zip(one, two, strict=True):
        for a, b in zip(ours["breakdowns"], theirs["breakdowns"], strict=True):
            for x, y in zip(a["estimates"], b["estimates"], strict=True):
                numbers = [name for name, value in x.items() if isinstance(value, float)]
                assert {**x, **dict.fromkeys(numbers)} == {**y, **dict.fromkeys(numbers)}
                assert [x[name] for name in numbers] == pytest.approx(
                    [y[name] for name in numbers], rel=1e-9
                )
