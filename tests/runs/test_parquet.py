"""A run as Parquet: typed columns, and the numbers of its figures."""

from dataclasses import replace
from time import perf_counter

import numpy as np
import polars as pl
import pytest

from llmscope.errors import ScopeError
from llmscope.figure import Axis
from llmscope.runs import format as form
from llmscope.runs.parquet import export
from llmscope.runs.reader import RunReader
from llmscope.runs.writer import RunWriter
from tests.cli.running import failure, run
from tests.runs.making import figures, info, line, written


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path / "run")


def test_every_number_is_there(folder, tmp_path):
    out = tmp_path / "tables"
    files = {path.name for path in export(RunReader(folder), out)}
    assert files == {
        *("steps.parquet", "scalars.parquet", "prompts.parquet", "tokens.parquet"),
        *("next-token.parquet", "logit-lens.target.parquet", "heads.induction.parquet"),
    }
    table = pl.read_parquet(out / "logit-lens.target.parquet")
    assert table.schema["step"] == pl.Int64
    assert table.schema["prompt"] == pl.Int32
    assert table.schema["position"] == pl.Int32
    assert table.schema["value"] == pl.Float32
    assert table.schema["ids"] == pl.Int64
    for step in (0, 40):
        for prompt in (0, 1):
            rows = table.filter((pl.col("step") == step) & (pl.col("prompt") == prompt))
            want = figures(step)[f"{prompt}/logit-lens:target"].values
            assert len(rows) == want.size
            for row in rows.iter_rows(named=True):
                assert row["value"] == want[row["layer"], row["position"]]
            assert rows["layer_label"][0] == "embed"
    heads = pl.read_parquet(out / "heads.induction.parquet")
    assert heads["prompt"].null_count() == len(heads) == 5 * 6
    steps = pl.read_parquet(out / "steps.parquet")
    assert steps["step"].to_list() == [0, 10, 20, 30, 40]
    assert steps["time"][1].timestamp() == 1010
    loss = pl.read_parquet(out / "scalars.parquet")
    np.testing.assert_allclose(loss["value"], [1 / (1 + step) for step in loss["step"]])


def test_an_axis_named_as_a_column_and_columns_that_come_later(tmp_path):
    writer = RunWriter(tmp_path / "run", info(prompts=1))
    for step in range(3):
        some = figures(step, prompts=1)
        old = some["0/tokens"]
        axes = (Axis("prompt", old.axes[0].labels),)
        extra = old.extra if step == 2 else {}
        some["0/tokens"] = replace(old, axes=axes, extra=extra)
        writer.add(some, line(step), began=perf_counter())
    export(RunReader(tmp_path / "run"), tmp_path / "tables")
    table = pl.read_parquet(tmp_path / "tables" / "tokens.parquet")
    assert set(table["prompt"]) == {0}
    assert table["axis_prompt"].to_list() == [0, 1, 2, 3] * 3
    assert table["ids"].null_count() == 8
    assert table.filter(pl.col("step") == 2)["ids"].to_list() == [0, 1, 2, 3]


def test_a_damaged_step_has_no_rows(folder, tmp_path):
    sorted((folder / form.SHARDS).iterdir())[1].unlink()
    export(RunReader(folder), tmp_path / "tables")
    table = pl.read_parquet(tmp_path / "tables" / "tokens.parquet")
    assert sorted(set(table["step"])) == [0, 20, 30, 40]


def test_a_folder_that_is_not_empty_is_left(folder):
    with pytest.raises(ScopeError, match="not empty"):
        export(RunReader(folder), folder)


def test_the_command(folder, tmp_path):
    out = tmp_path / "tables"
    result = run("watch", folder, "--export", out)
    assert result.exit_code == 0, result.output
    assert "steps.parquet" in result.output
    assert (out / "tokens.parquet").exists()
    assert "is no run" in failure("watch", tmp_path, "--export", tmp_path / "more")
    assert "--revisions" in failure("watch", folder, folder, "--revisions", "a", code=2)
    assert "--prompt" in failure("watch", folder, "--prompt", "x", code=2)
