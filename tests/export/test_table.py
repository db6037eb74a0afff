"""A figure as CSV and Parquet, in the columns of its lens's table."""

import csv
import io

import numpy as np
import pyarrow.parquet
import pytest

import llmscope
from llmscope.lenses import lens
from tests.cli.running import failure, run

PROMPT = "Anna has a red ball."


@pytest.fixture(scope="module")
def scope():
    scope = llmscope.load("builtin:town", device="cpu")
    scope.record(PROMPT)
    return scope


def lines_of(text):
    return list(csv.DictReader(io.StringIO(text)))


CASES = [
    ("tokens", ""),
    ("next-token", ""),
    ("attention", "raw"),
    ("attention", "mean"),
    ("residual", "stream"),
    ("residual", "cosine"),
    ("logit-lens", "top"),
]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_saved_figure_has_the_columns_of_the_table_of_its_lens(scope, tmp_path, name, mode):
    figure = scope.look(name, **({"mode": mode} if mode else {}))
    text = figure.save(tmp_path / "figure.csv").read_text()
    table = pyarrow.parquet.read_table(figure.save(tmp_path / "figure.parquet"))
    wanted = [column.name for column in lens(name).table(mode)]
    assert table.schema.names == wanted
    assert text.splitlines()[0] == ",".join(f'"{column}"' for column in wanted)
    assert len(lines_of(text)) == len(table) > 0


def test_the_numbers_of_a_table_are_those_of_the_figure(scope, tmp_path):
    figure = scope.look("residual", mode="cosine")
    rows = lines_of(figure.save(tmp_path / "figure.csv").read_text())
    values = np.full(figure.values.shape, np.nan, np.float32)
    for row in rows:
        values[int(row["layer"]) + 1, int(row["position"])] = np.float32(row["cosine"])
        assert int(row["from_end"]) == int(row["position"]) - len(scope.latest)
    assert np.array_equal(values, figure.values, equal_nan=True)


def test_a_snapshot_is_written_as_the_same_table(tmp_path):
    out = tmp_path / "figure.parquet"
    asked = ("snapshot", "builtin:town", "--prompt", PROMPT, "--lens", "residual:cosine")
    assert run(*asked, "--out", out).exit_code == 0
    printed = run(*asked, "--format", "csv")
    assert printed.exit_code == 0, printed.stderr
    table = pyarrow.parquet.read_table(out)
    assert table.schema.names == [column.name for column in lens("residual").table("cosine")]
    assert PROMPT.encode() in table.schema.metadata[b"snapshot"]
    cosines = [float(row["cosine"]) for row in lines_of(printed.stdout)]
    assert np.allclose(cosines, table["cosine"].to_pylist(), atol=1e-6)


def test_two_lenses_are_no_one_table():
    asked = ("snapshot", "builtin:town", "--prompt", PROMPT, "--format", "csv")
    line = failure(*asked, "--lens", "tokens", "--lens", "attention")
    assert "attention:raw, tokens" in line
    assert "one --lens" in line


def test_a_refused_figure_is_no_table(scope, tmp_path):
    figure = scope.look("patching")
    assert figure.verdict.status == "refused"
    with pytest.raises(llmscope.Error, match="there is no table"):
        figure.save(tmp_path / "figure.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_with_force_alone(scope, tmp_path):
    path = tmp_path / "figure.csv"
    path.write_text("old")
    figure = scope.look("tokens")
    with pytest.raises(llmscope.Error, match="exists") as caught:
        figure.save(path)
    assert caught.value.hint == "force=True to replace it"
    figure.save(path, force=True)
    assert path.read_text() != "old"
    asked = ("snapshot", "builtin:town", "--prompt", PROMPT, "--lens", "tokens", "--out", path)
    assert "(try: --force to replace it)" in failure(*asked)
