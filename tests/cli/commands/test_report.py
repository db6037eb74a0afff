"""`llmscope report` and `replay FOLDER` as a user runs them."""

import csv
import json

import pytest

from llmscope.report.means import Resampling
from llmscope.report.summary import ReportRequest, report
from tests.cli.running import run
from tests.report.conftest import batch  # noqa: F401
from tests.report.folders import write_folder
from tests.report.test_reader import EVIL, hostile


@pytest.fixture
def told(batch):  # noqa: F811
    def tell(*options, code=0):
        result = run("report", batch[0], *options)
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    return tell


def test_the_summary(told):
    text = told()
    assert "60 prompts of builtin:town; 1 failed, most often: too long\n" in text
    assert "── ablation: 58 prompts, 1 refused (no such head)\n" in text
    assert "the answer is first from layer … on (of 59 prompts)\n" in text
    assert "means by class\n" in text
    assert "1.2  " in text
    assert "\x1b" not in text


def test_a_map_of_two_columns_at_the_last_token(told):
    text = told("--lens", "logit-lens", "--value", "p_target", "--by", "layer", "--by", "label")
    assert "largest p_target by layer, label\n" in text
    text = told("--value", "p_target", "--by", "layer", "--by", "label", "--last")
    assert "p_target at the last token by layer, label · mean, n=" in text


def test_json_has_all_numbers(told, batch):  # noqa: F811
    found = json.loads(told("--format", "json", "--resamples", "150", "--seed", "7"))
    how = Resampling(resamples=150, seed=7)
    assert found == json.loads(json.dumps(report(str(batch[0]), ReportRequest(how=how)).to_dict()))
    assert found["intervals"]["seed"] == 7
    quantiles = found["lenses"][2]["distributions"][0]["quantiles"]
    assert set(quantiles) == {"0.0", "0.05", "0.25", "0.5", "0.75", "0.95", "1.0"}


def test_csv_has_a_row_for_each_mean(told, batch, tmp_path):  # noqa: F811
    told("--lens", "ablation", "--out", tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 1 + 12
    found = report(str(batch[0]), ReportRequest(lenses=("ablation",))).lenses[0].breakdowns[0]
    one = next(row for row in rows if row["group"] == "1.2")
    best = found.ranked[0]
    assert float(one["mean"]) == best.mean
    assert float(one["low"]) == best.low
    assert int(one["prompts"]) == best.prompts
    assert one["corrected"] == "True"


def test_csv_runs_nothing_in_a_spreadsheet(batch, tmp_path):  # noqa: F811
    _, prompts, _ = batch
    rows = [{"line": 1, "part": f"{sign}cmd()", "score": ord(sign) / 2} for sign in "=+@-"]
    folder = write_folder(tmp_path / "out", prompts, {"heads": rows})
    result = run("report", folder, "--format", "csv")
    cells = [row[4] for row in csv.reader(result.stdout.splitlines())][2:]
    assert len(cells) == 4
    assert all(cell.startswith("'") for cell in cells)


@pytest.mark.parametrize("suffix", ["svg", "png", "html", "txt", "ansi"])
@pytest.mark.few(3)
def test_pictures(told, tmp_path, suffix):
    told("--out", tmp_path / f"a.{suffix}")
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


@pytest.mark.slow
def test_pictures_for_print(told, tmp_path):
    told("--look", "paper", "--out", tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"
    assert "exists" in told("--look", "paper", "--out", tmp_path / "a.pdf", code=1)
    assert "svg, pdf, png" in told("--look", "paper", "--format", "txt", code=2)


def test_wrong_use(told):
    for options in (
        ("--versus", "x", "--versus-column", "y"),
        ("--pair-by", "x"),
        ("--level", "1"),
        ("--resamples", "3"),
        ("--look", "art"),
        ("--format", "npz"),
        ("--by", "a", "--by", "b", "--by", "c", "--by", "d"),
        ("--look", "paper", "--theme", "light"),
    ):
        told(*options, code=2)


def test_an_error_is_one_line(told):
    assert told("--by", "clas", "--lens", "tokens", code=1) == (
        "error: the table of tokens has no column clas (try: class)\n"
    )


def test_comparisons(told, batch):  # noqa: F811
    text = told("--versus", batch[0], "--lens", "ablation", "--by", "layer")
    assert "696 pairs of rows, 0 rows left out; A is above B in 0.0 % of 58 prompts" in text
    options = ("--lens", "tokens", "--value", "surprisal", "--versus-column", "label")
    text = told(*options, "--pair-by", "pair")
    assert "29 pairs of prompts, 2 prompts left out" in text
    assert "label a" in text


@pytest.mark.parametrize("suffix", ["txt", "csv", "json", "html", "svg"])
def test_foreign_names_reach_the_terminal_escaped(tmp_path, suffix):
    folder = hostile(tmp_path / "out")
    options = ("--value", "p", "--by", EVIL, "--format", suffix)
    result = run("report", folder, *options)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    result = run("report", folder, "--by", EVIL + "x")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


def test_a_folder_is_replayed_on_a_terminal_alone(batch):  # noqa: F811
    result = run("replay", batch[0])
    assert result.exit_code == 1
    assert "is no terminal" in result.stderr
    assert "llmscope report" in result.stderr
