"""Comparisons of pairs, against loops over the rows."""

import math

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.report.means import Resampling
from llmscope.report.summary import ReportRequest, report
from llmscope.support.bootstrap import Draws
from tests.report.folders import write_folder

HOW = Resampling(resamples=150, level=0.9, seed=1)


def interval(items, clusters):
    """The interval of the mean of (cluster, value) pairs over resampled clusters."""
    weights = Draws(clusters, resamples=HOW.resamples, seed=HOW.seed).weights(0)
    drawn = [
        math.fsum(draw[at] * x for at, x in items) / sum(draw[at] for at, _ in items)
        for draw in weights
    ]
    return np.quantile(drawn, [0.05, 0.95])


@pytest.fixture(scope="module")
def other(batch, tmp_path_factory):
    """A second run: effects that are 0.5 lower, without head 0.0 and without the last prompt."""
    _, prompts, lenses = batch
    random = np.random.default_rng(5)
    rows = [
        {**row, "effect": row["effect"] - 0.5 + 0.1 * random.normal()}
        for row in lenses["ablation"][::-1]
        if (row["layer"], row["head"]) != (0, 0) and row["line"] != 60
    ]
    folder = tmp_path_factory.mktemp("other") / "out"
    return write_folder(folder, prompts[:-1], {"ablation": rows}, shard=13), rows


def test_two_folders_row_by_row(batch, other):
    folder, _, lenses = batch
    path, rows = other
    asked = ReportRequest(versus=str(path), by=("layer",), how=HOW)
    found = report(str(folder), asked).lenses
    assert [one.lens for one in found] == ["ablation"]
    one = found[0].comparisons[0]
    place = {(row["line"], row["layer"], row["head"]): row["effect"] for row in rows}
    ours = {(row["line"], row["layer"], row["head"]): row["effect"] for row in lenses["ablation"]}
    common = sorted(place.keys() & ours.keys())
    lines = sorted({line for line, *_ in common})
    at = {line: index for index, line in enumerate(lines)}
    items = [(at[key[0]], ours[key] - place[key]) for key in common]
    assert one.difference.rows == len(common)
    assert one.difference.prompts == len(lines)
    assert one.difference.mean == pytest.approx(np.mean([x for _, x in items]))
    assert [one.difference.low, one.difference.high] == pytest.approx(
        interval(items, len(lines)), rel=1e-9
    )
    assert one.mean_a - one.mean_b == pytest.approx(one.difference.mean)
    assert one.mean_a == pytest.approx(np.mean([ours[key] for key in common]))
    means = [np.mean([x for index, x in items if index == at[line]]) for line in lines]
    assert one.positive.mean == pytest.approx(np.mean(np.array(means) > 0))
    # Head 0.0 of 57 prompts; rows of line 60 are of a prompt that the other folder lacks.
    assert one.left_out == len(ours) + len(place) - 2 * len(common)
    assert [each.labels for each in one.breakdown.estimates] == [(0,), (1,), (2,)]
    first = [x for (index, x), key in zip(items, common, strict=True) if key[1] == 0]
    assert one.breakdown.estimates[0].mean == pytest.approx(np.mean(first))
    assert all(each.corrected for each in one.breakdown.estimates)


def test_two_columns_of_one_table(batch):
    folder, _, lenses = batch
    asked = ReportRequest(lenses=("tokens",), values=("surprisal",), versus_column="rank", how=HOW)
    one = report(str(folder), asked).lenses[0].comparisons[0]
    kept = [row for row in lenses["tokens"] if row["surprisal"] is not None]
    lines = sorted({row["line"] for row in lenses["tokens"]})
    at = {line: index for index, line in enumerate(lines)}
    items = [(at[row["line"]], row["surprisal"] - row["rank"]) for row in kept]
    assert one.difference.mean == pytest.approx(np.mean([x for _, x in items]))
    assert [one.difference.low, one.difference.high] == pytest.approx(interval(items, len(lines)))
    assert one.left_out == len(lenses["tokens"]) - len(kept)
    assert one.breakdown is None


def test_two_groups_of_paired_prompts(batch):
    folder, _, lenses = batch
    asked = ReportRequest(
        lenses=("tokens",),
        values=("surprisal",),
        versus_column="label",
        pair_by="pair",
        by=("class",),
        how=HOW,
    )
    one = report(str(folder), asked).lenses[0].comparisons[0]

    def mean(line, keep=lambda row: True):
        found = [
            row["surprisal"]
            for row in lenses["tokens"]
            if row["line"] == line and row["surprisal"] is not None and keep(row)
        ]
        return np.mean(found)

    # Line 6 failed, so the pair of lines 5 and 6 is left out.
    pairs = [(line, line + 1) for line in range(1, 60, 2) if line != 5]
    differences = [mean(a) - mean(b) for a, b in pairs]
    assert (one.a, one.b) == ("label a", "label b")
    assert one.difference.rows == one.difference.prompts == len(pairs) == 29
    assert one.difference.mean == pytest.approx(np.mean(differences))
    assert [one.difference.low, one.difference.high] == pytest.approx(
        interval(list(enumerate(differences)), len(pairs))
    )
    assert one.positive.mean == pytest.approx(np.mean(np.array(differences) > 0))
    assert one.left_out == 2
    words = [
        mean(a, lambda row: row["class"] == "word") - mean(b, lambda row: row["class"] == "word")
        for a, b in pairs
    ]
    by_class = {each.labels[0]: each for each in one.breakdown.estimates}
    assert by_class["word"].mean == pytest.approx(np.mean([x for x in words if x == x]))


def refused(folder, **asked):
    with pytest.raises(ScopeError) as error:
        report(str(folder), ReportRequest(how=HOW, **asked))
    return error.value.message, error.value.hint


def test_another_prompt_of_the_same_line_is_refused(batch, tmp_path):
    folder, prompts, lenses = batch
    changed = [{**one, "prompt": "another"} if one["line"] == 17 else one for one in prompts]
    write_folder(tmp_path / "changed", changed, lenses)
    message, _ = refused(folder, versus=str(tmp_path / "changed"))
    assert message.startswith("line 17 is another prompt in ")


def test_what_cannot_be_compared_is_refused(batch, tmp_path):
    folder, prompts, lenses = batch
    later = [{**one, "line": one["line"] + 100} for one in prompts]
    rows = [{**row, "line": row["line"] + 100} for row in lenses["tokens"]]
    write_folder(tmp_path / "later", later, {"tokens": rows})
    assert "have no prompt in common" in refused(folder, versus=str(tmp_path / "later"))[0]
    write_folder(tmp_path / "heads", prompts, {"heads": lenses["ablation"]})
    assert "share no lens" in refused(folder, versus=str(tmp_path / "heads"))[0]
    message, hint = refused(folder, lenses=("tokens",), versus_column="label")
    assert (message, hint) == (
        "'label' holds no numbers: its values can be compared as groups of paired prompts",
        "pair_by=COLUMN",
    )
    assert refused(folder, lenses=("tokens",), versus_column="ranc")[1] == "rank"
    pairs = {"lenses": ("tokens",), "values": ("surprisal",)}
    message, _ = refused(folder, **pairs, versus_column="size", pair_by="pair")
    assert message.startswith("size has ")
    message, _ = refused(folder, **pairs, versus_column="label", pair_by="label")
    assert message == "label pairs more than one prompt of label a"


def test_rows_that_repeat_a_key_are_refused(batch, tmp_path):
    folder, prompts, lenses = batch
    rows = [*lenses["tokens"], lenses["tokens"][0]]
    write_folder(tmp_path / "twice", prompts, {"tokens": rows})
    message, _ = refused(folder, lenses=("tokens",), versus=str(tmp_path / "twice"))
    assert "are not told apart by line, position, from_end" in message
