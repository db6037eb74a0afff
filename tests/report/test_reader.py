"""Folders that are no batch, damaged ones, and foreign names."""

import json
import math
import shutil
from importlib import import_module

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from llmscope.errors import ScopeError
from llmscope.report.means import Resampling
from llmscope.report.reader import BatchTables
from llmscope.report.summary import ReportRequest, report
from tests.cli.running import run
from tests.report.folders import write_folder, write_table

HOW = Resampling(resamples=100)


def refused(folder, **asked):
    with pytest.raises(ScopeError) as error:
        report(str(folder), ReportRequest(how=HOW, **asked))
    return error.value.message, error.value.hint


@pytest.fixture
def copied(batch, tmp_path):
    shutil.copytree(batch[0], tmp_path / "out")
    return tmp_path / "out"


def test_no_folder_of_a_batch(tmp_path):
    message, hint = refused(tmp_path)
    assert message == f"{tmp_path} is no folder of a batch"
    assert "snapshot --prompts FILE --out FOLDER" in hint
    assert "is no folder of a batch" in refused(tmp_path / "missing")[0]


def test_a_folder_of_an_earlier_version(tmp_path):
    (tmp_path / "shard-00000.parquet").write_bytes(b"PAR1")
    (tmp_path / "manifest.json").write_text('{"schema": 1}')
    assert "made by an earlier version" in refused(tmp_path)[0]


def test_a_folder_of_a_newer_version(copied):
    (copied / "manifest.json").write_text('{"schema": 3}')
    assert "schema 3, newer than" in refused(copied)[0]


@pytest.mark.parametrize("text", ["", "[1]", "{", '"' + "[" * 100_000])
def test_a_damaged_manifest(copied, text):
    (copied / "manifest.json").write_text(text)
    assert "manifest.json" in refused(copied)[0]


@pytest.mark.parametrize("table", ["tokens", "prompts", "verdicts"])
def test_a_damaged_file_is_named(copied, table):
    file = copied / table / "shard-00001.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    assert f"{table}/shard-00001.parquet" in refused(copied)[0]


def test_a_shard_that_is_not_finished_does_not_count(copied):
    (copied / "prompts" / "shard-00002.parquet").unlink()
    (copied / "manifest.json").write_text("{}")
    found = report(str(copied), ReportRequest(how=HOW))
    assert found.prompts == 50
    assert not found.complete
    assert max(one.prompts for one in found.lenses) == 49


def test_jobs_share_a_folder(copied):
    for part in (0, 1):
        (copied / f"manifest-{part}of2.json").write_text(
            json.dumps({"complete": {} if part else {"shards": 1}, "options": {}})
        )
    (copied / "manifest.json").unlink()
    assert not BatchTables(str(copied)).complete
    (copied / "manifest-1of2.json").write_text('{"complete": {"shards": 1}}')
    assert BatchTables(str(copied)).complete


def test_names_that_do_not_exist_are_refused_with_the_nearest(batch):
    folder, _, _ = batch
    assert refused(folder, lenses=("token",)) == (
        f"{folder} has no table of the lens token",
        "tokens",
    )
    assert refused(folder, values=("surprisl",)) == (
        "the tables have no column surprisl",
        "surprisal",
    )
    assert refused(folder, lenses=("tokens",), by=("clas",)) == (
        "the table of tokens has no column clas",
        "class",
    )
    assert refused(folder, lenses=("tokens",), values=("token",))[0] == (
        "token of tokens holds no numbers"
    )


def test_a_column_without_values_is_named_and_not_left_out(batch, tmp_path):
    _, prompts, _ = batch
    rows = [{"line": 1, "p": 0.5, "effect": math.nan}, {"line": 2, "p": 0.25, "effect": math.nan}]
    folder = write_folder(tmp_path / "out", prompts, {"words": rows})
    asked = {"lenses": ("words",)}
    assert refused(folder, values=("p", "effect"), **asked) == (
        "effect of words holds no value",
        "p",
    )
    assert refused(folder, values=("effect",), **asked)[0] == "effect of words holds no value"


def test_by_a_column_that_some_lenses_have_takes_those(batch):
    found = report(str(batch[0]), ReportRequest(by=("class",), how=HOW))
    assert [one.lens for one in found.lenses] == ["tokens"]


def test_a_table_without_numbers(batch, tmp_path):
    _, prompts, _ = batch
    write_folder(tmp_path / "out", prompts, {"words": [{"line": 1, "token": "x"}]})
    assert refused(tmp_path / "out")[0].endswith("has no column of numbers")
    assert refused(tmp_path / "out", lenses=("words",))[0] == (
        "the table of words has no column of numbers"
    )


def test_a_prompt_in_two_files_is_refused(copied):
    shutil.copy(
        copied / "prompts" / "shard-00000.parquet", copied / "prompts" / "shard-00009.parquet"
    )
    assert "holds line 1 of the prompts twice" in refused(copied)[0]


def test_rows_in_two_files_or_of_no_prompt_are_refused(copied):
    first = pyarrow.parquet.read_table(copied / "tokens" / "shard-00000.parquet")
    second = copied / "tokens" / "shard-00001.parquet"
    both = pyarrow.concat_tables([pyarrow.parquet.read_table(second), first.slice(0, 2)])
    pyarrow.parquet.write_table(both, second)
    assert "repeats rows of line 1" in refused(copied)[0]
    strange = first.set_column(0, "line", pyarrow.array([999] * len(first)))
    pyarrow.parquet.write_table(strange, copied / "tokens" / "shard-00000.parquet")
    assert (
        "rows of line 999, which is not among its prompts" in refused(copied, lenses=("tokens",))[0]
    )


def test_lines_that_are_no_numbers_are_refused(copied):
    file = copied / "tokens" / "shard-00000.parquet"
    table = pyarrow.parquet.read_table(file)
    lines = table.column("line").cast(pyarrow.string())
    write_table(file, table.set_column(0, "line", lines), "tokens")
    assert "line is no number everywhere" in refused(copied)[0]


@pytest.mark.parametrize(
    ("table", "column", "holds"),
    [
        ("prompts", "n_tokens", "numbers"),
        ("prompts", "error", "text"),
        ("verdicts", "line", "numbers"),
        ("verdicts", "lens", "text"),
        ("verdicts", "status", "text"),
        ("verdicts", "reason", "text"),
        ("tokens", "surprisal", "numbers"),
    ],
)
@pytest.mark.parametrize("shard", [0, 1])
def test_a_column_of_another_type_is_named(copied, table, column, holds, shard):
    file = copied / table / f"shard-0000{shard}.parquet"
    rows = pyarrow.parquet.read_table(file)
    at = rows.column_names.index(column)
    foreign = [
        [[1]] * len(rows),
        [{"a": 1}] * len(rows),
        pyarrow.array(["x"] * len(rows)).dictionary_encode(),
        [b"\xff"] * len(rows),
        ["x"] * len(rows) if holds == "numbers" else [1.5] * len(rows),
    ]
    for values in foreign:
        values = values if isinstance(values, pyarrow.Array) else pyarrow.array(values)
        changed = rows.set_column(at, column, values)
        pyarrow.parquet.write_table(changed, file)
        if table == "tokens" and shard == 0:  # the first file says which columns hold numbers
            assert "surprisal" not in BatchTables(str(copied)).table("tokens").values
            continue
        message, hint = refused(copied)
        assert f"{table}/shard-0000{shard}.parquet: {column} is of type " in message
        assert message.endswith(f"should hold {holds}")
        assert hint == "the batch anew"


EVIL = "a\x1b[31m\u202eb\n[bold]$x$"


def hostile(folder):
    """A folder whose names, texts and numbers nobody would choose."""
    prompts = [
        {"line": at + 1, "prompt": EVIL, "n_tokens": 3, "error": None, EVIL: EVIL * (at % 2)}
        for at in range(6)
    ]
    prompts.append({"line": 7, "prompt": None, "n_tokens": None, "error": EVIL, EVIL: None})
    values = [1.0, None, float("nan"), float("inf"), 2.0, 3.0]
    rows = [
        {
            "line": at + 1,
            "layer": 2**31 - 1 - at,
            "token": EVIL,
            "p": values[at],
            "huge": [2**63 - 1, -(2**63), 0, 5, None, 1][at],
        }
        for at in range(6)
    ]
    write_folder(folder, prompts, {"hostile": rows, "empty": rows})
    for file in (folder / "empty").iterdir():
        table = pyarrow.parquet.read_table(file)
        pyarrow.parquet.write_table(table.slice(0, 0), file)
    return folder


def test_foreign_names_texts_and_numbers(tmp_path):
    folder = hostile(tmp_path / "out")
    found = report(str(folder), ReportRequest(values=("p",), by=(EVIL,), how=HOW))
    one = next(each for each in found.lenses if each.lens == "hostile")
    all_rows = one.distributions[0]
    assert (all_rows.all.mean, all_rows.all.rows, all_rows.missing) == (2, 3, 3)
    assert [each.labels for each in one.breakdowns[0].estimates] == [("",), (EVIL,)]
    empty = next(each for each in found.lenses if each.lens == "empty")
    assert empty.distributions == ()
    huge = report(str(folder), ReportRequest(lenses=("hostile",), values=("huge",), how=HOW))
    assert huge.lenses[0].distributions[0].all.mean == pytest.approx(6 / 5)


def test_lists_are_no_groups(batch, tmp_path):
    _, prompts, _ = batch
    rows = [{"line": at, "p": 1.0, "parts": [1, 2]} for at in (1, 2)]
    write_folder(tmp_path / "out", prompts, {"lists": rows})
    assert refused(tmp_path / "out", by=("parts",))[0] == (
        "parts holds values that rows cannot be grouped by"
    )


def test_too_many_groups_are_refused(batch, tmp_path):
    _, prompts, _ = batch
    rows = [{"line": 1, "neuron": at, "p": 1.0} for at in range(9000)]
    write_folder(tmp_path / "out", prompts, {"mlp": rows})
    assert "more than 8,192 groups" in refused(tmp_path / "out", by=("neuron",))[0]


def test_a_folder_on_a_file_system_of_fsspec(batch):
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(str(batch[0]), "/report-of-a-batch", recursive=True)
    remote = report("memory://report-of-a-batch", ReportRequest(how=HOW))
    assert (
        remote.to_dict()["lenses"]
        == report(str(batch[0]), ReportRequest(how=HOW)).to_dict()["lenses"]
    )


def test_floats_are_grouped_as_numbers_and_decimals_too(batch, tmp_path):
    _, prompts, _ = batch
    table = pyarrow.table(
        {
            "line": pyarrow.array([1, 2, 3], pyarrow.int64()),
            "p": pyarrow.array([1.0, 2.0, 3.0]),
            "scale": pyarrow.array([0.5, 2.0, None]),
            "price": pyarrow.array([1, 1, 2], pyarrow.decimal128(5, 2)),
        }
    )
    folder = write_folder(tmp_path / "out", prompts, {"x": [{"line": 1, "p": 1.0}]}, shard=99)
    write_table(folder / "x" / "shard-00000.parquet", table, "x")
    found = report(str(folder), ReportRequest(values=("p",), by=("scale", "price"), how=HOW))
    labels = [one.labels for one in found.lenses[0].breakdowns[0].estimates]
    assert labels == [(0.5, 1), (2, 1), (None, 2)]
    assert np.isclose(found.lenses[0].distributions[0].all.mean, 2)


@pytest.mark.parametrize("shards", [0, 2])
def test_a_batch_that_was_stopped_is_reported_as_far_as_it_is(tmp_path, monkeypatch, shards):
    batch = import_module("llmscope.jobs.snapshots.run")  # the package has a function of that name
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("".join(f"anna lives in {place}\n" for place in ("a", "b", "c", "d", "e")))
    rows_of, windows = batch.rows_of, []

    def stopped(*given):
        windows.append(given)
        if len(windows) > shards:
            raise KeyboardInterrupt
        return rows_of(*given)

    monkeypatch.setattr(batch, "rows_of", stopped)
    words = ("--prompts", prompts, "--out", out, "--lens", "tokens", "--shard-size", "2")
    assert run("snapshot", "builtin:town", *words).exit_code == 130
    assert (out / "manifest.json").exists()
    if not shards:
        message, hint = refused(out)
        assert message == (
            f"the batch in {out} was stopped, or has just begun: no prompt is finished, and none "
            "of its shards of 2 prompts is written yet"
        )
        assert hint.startswith("the same snapshot command again")
        return
    text = run("report", out).stdout
    assert text.startswith(
        f"{out}: 4 prompts of builtin:town; the batch was stopped, or goes on: this is of the "
        "prompts that are there, in 2 shards of 2\n"
    )
    summary = json.loads(run("report", out, "--json").stdout)
    assert not summary["complete"]
    assert summary["stopped"].endswith("in 2 shards of 2")
    monkeypatch.undo()
    assert run("snapshot", "builtin:town", *words).exit_code == 0
    assert "the batch was stopped" not in run("report", out).stdout


@pytest.mark.parametrize("shards", [0, 1])
def test_passes_of_a_shard_that_is_not_whole_are_reported_too(tmp_path, monkeypatch, shards):
    finished = import_module("llmscope.jobs.snapshots.finished").FinishedPasses
    prompts, out = tmp_path / "prompts.csv", tmp_path / "out"
    places = ("a", "b", "c", "d", "e", "f", "g", "h")
    lines = [f"anna lives in {place},{at},{at % 2}" for at, place in enumerate(places)]
    prompts.write_text("\n".join(["prompt,score,half", *lines]))
    add, passes = finished.add, []

    def stopped(self, *given):
        add(self, *given)
        passes.append(given)
        if len(passes) == 5 * shards + 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(finished, "add", stopped)
    words = ("--prompts", prompts, "--lens", "next-token", "--lens", "tokens", "--batch-size", "1")
    words = (*words, "--shard-size", "5" if shards else "8")
    assert run("snapshot", "builtin:town", *words, "--out", out).exit_code == 130
    monkeypatch.undo()
    count = 8 if shards else 3
    text = run("report", out, "--lens", "tokens").stdout
    part = "in 1 shard of 5 and 3 of the next shard of 5" if shards else "3 of the first shard of 8"
    assert f"prompts that are there, {part}\n" in text
    first = tmp_path / "first.csv"
    first.write_text("\n".join(["prompt,score,half", *lines[:count]]))
    whole = tmp_path / "whole"
    same = ("--prompts", first, *words[2:])
    assert run("snapshot", "builtin:town", *same, "--out", whole).exit_code == 0
    for more in ((), ("--by", "half")):
        asked = ("--lens", "tokens", "--format", "json", *more)
        found, expected = (
            json.loads(run("report", folder, *asked).stdout) for folder in (out, whole)
        )
        assert not found["complete"]
        of_folder = {"folder", "complete", "stopped"}
        assert {key: found[key] for key in found.keys() - of_folder} == {
            key: expected[key] for key in expected.keys() - of_folder
        }


def test_the_folder_of_another_job_is_no_folder_of_a_batch(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema": 1, "options": {}}')
    assert refused(tmp_path)[0] == f"{tmp_path} is no folder of a batch"
