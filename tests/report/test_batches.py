"""Reports of real batches of a built-in model, with all lenses that have tables."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from llmscope.cli.output.batch_report import report_text
from llmscope.export import render
from llmscope.report.figures import figures, plots
from llmscope.report.summary import ReportRequest, report
from tests.cli.running import run

LENSES = (
    *("tokens", "logit-lens", "next-token", "attention", "heads", "attribution", "mlp"),
    *("residual", "saliency", "patching", "ablation"),
)
DEFAULTS = {
    "tokens": {("position",)},  # the letters of the model are all of one class
    "logit-lens": {("layer",)},
    "next-token": {("rank",)},
    "attention": {("layer", "head")},
    "heads": {("layer", "head")},
    "attribution": {("part",)},
    "mlp": {("layer",)},
    "residual": {("layer",)},
    "saliency": {("position",)},
    "patching": {("layer", "from_end")},
    "ablation": {("layer", "head")},
}


@pytest.fixture(scope="module")
def sorted_letters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters")
    lines = [
        {"prompt": "CABACB", "versus_prompt": "CABACA", "kind": "a"},
        {"prompt": "BACABC", "versus_prompt": "BACABB", "kind": "b"},
        {"prompt": "AACB", "versus_prompt": "AACC", "kind": "a"},
    ]
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [word for lens in LENSES for word in ("--lens", lens)]
    result = run("snapshot", "builtin:sort", "--prompts", prompts, "--out", folder / "out", *words)
    assert result.exit_code == 0, result.output
    return folder / "out"


@pytest.mark.slow
def test_every_lens_is_told_by_its_own_keys(sorted_letters):
    found = report(str(sorted_letters), ReportRequest())
    assert found.model == "builtin:sort"
    assert found.complete
    assert {one.lens for one in found.lenses} == set(LENSES)
    # Its vocabulary is too small for the random text of heads; both prompts sort to A first.
    without = {one.lens: one.statuses for one in found.lenses if not one.prompts}
    assert without == {"heads": {"refused": 3}, "patching": {"refused": 3}}
    for lens in found.lenses:
        known = {one.by for one in lens.breakdowns}
        assert known <= DEFAULTS[lens.lens] | {("class",)}, lens.lens
        for one in lens.distributions:
            table = pyarrow.parquet.read_table(sorted_letters / lens.lens)
            values = table.column(one.value).drop_null().to_numpy().astype(float)
            assert one.all.mean == pytest.approx(values.mean(), rel=1e-9)
            assert one.all.rows == len(values)
    assert report_text(found)
    assert render(figures(found), "txt")
    assert render(plots(found), "svg", look="paper")


def test_the_effects_of_heads_are_those_of_the_table(sorted_letters):
    found = report(str(sorted_letters), ReportRequest(lenses=("ablation",))).lenses[0].breakdowns[0]
    table = pyarrow.parquet.read_table(sorted_letters / "ablation").to_pandas()
    expected = table.groupby(["layer", "head"])["effect"].mean()
    assert {one.labels: one.mean for one in found.estimates} == pytest.approx(expected.to_dict())
    by_kind = report(str(sorted_letters), ReportRequest(lenses=("ablation",), by=("kind",)))
    means = {one.labels[0]: one.mean for one in by_kind.lenses[0].breakdowns[0].estimates}
    assert means == pytest.approx(table.groupby("kind")["effect"].mean().to_dict())
    assert np.isfinite(list(means.values())).all()


def test_a_mean_says_how_many_layers_and_tokens_it_is_over(sorted_letters):
    found = report(str(sorted_letters), ReportRequest(lenses=("logit-lens",), values=("p",)))
    table = pyarrow.parquet.read_table(sorted_letters / "logit-lens")
    of_prompts = table.to_pandas().groupby("line")
    wanted = {name: of_prompts[name].nunique().max() for name in ("layer", "position")}
    assert found.lenses[0].distributions[0].over == wanted
    said = f"the mean is over up to {wanted['layer']} layers and 6 positions of each prompt: --last"
    assert said in report_text(found)
    last = report(
        str(sorted_letters), ReportRequest(lenses=("tokens",), values=("entropy",), last=True)
    )
    assert last.lenses[0].distributions[0].over == {}  # it differs between prompts alone
