"""`--engine ray` as far as it needs no cluster: what is refused, what workers get, what they do."""

import json
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet as parquet
import pytest

from llmscope.corpus.records.inputs import InputColumns
from llmscope.errors import ScopeError
from llmscope.figure import Focus
from llmscope.jobs.snapshots import JobShare, PromptSource
from llmscope.jobs.snapshots.folder import BatchOutput
from llmscope.jobs.snapshots.job import PromptJob
from llmscope.jobs.snapshots.padded import Together
from llmscope.jobs.snapshots.predictor import ShardPredictor
from llmscope.jobs.snapshots.progress import BatchProgress
from llmscope.jobs.snapshots.shards import Tables
from llmscope.jobs.snapshots.staged import STAGED, put, read_staged, stage, stage_shard
from llmscope.jobs.snapshots.workers import Workers, workers_on
from llmscope.jobs.workers import Predictor
from llmscope.scope.scope import load
from llmscope.support.storage import storage
from tests.cli.running import failure
from tests.jobs.snapshots.test_batch import LENSES, PROMPTS, batch, files, table, written

JOB = PromptJob(("next-token", "logit-lens", "tokens"), Focus())


def asked(tmp_path):
    return (
        *("snapshot", "--prompts", written(tmp_path / "p.jsonl"), *LENSES),
        *("--out", tmp_path / "o", "--engine", "ray"),
    )


def test_wrong_usage(tmp_path):
    prompts = written(tmp_path / "p.jsonl")
    ask = ("snapshot", "--prompts", prompts, *LENSES, "--out", tmp_path / "o")
    assert "--engine ray" in failure(*ask, "--workers", "2", code=2)
    assert "--engine ray" in failure(*ask, "--gpus-per-worker", "1", code=2)
    assert "--engine ray" in failure(*ask, "--max-errored-blocks", "1", code=2)
    assert "local or ray" in failure(*ask, "--engine", "slurm", code=2)
    assert "a whole number" in failure(*ask, "--engine", "ray", "--gpus-per-worker", "1.5", code=2)
    one = ("snapshot", *LENSES, "--prompt", "A", "--engine", "ray")
    assert "--prompts" in failure(*one, code=2)
    assert not (tmp_path / "o").exists()


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("llmscope.jobs.workers.cluster.find_spec", lambda name: None)
    assert "pip install 'ray[data]'" in failure(*asked(tmp_path))


def test_a_ray_client_is_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setattr("llmscope.jobs.workers.cluster.find_spec", lambda name: True)
    assert "a machine of the cluster" in failure(*asked(tmp_path))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_an_address_where_nothing_listens(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "cannot reach Ray at 127.0.0.1:9" in failure(*asked(tmp_path))


def test_what_workers_get():
    plain = [{"CPU": 8}, {"CPU": 2}]
    assert workers_on(plain, Workers(cpus=2), 1) == Workers(2, 2, 0)
    assert workers_on(plain, Workers(), 4) == Workers(1, 4, 0)
    assert workers_on(plain, Workers(7, 4), 1) == Workers(7, 4, 0)
    with pytest.raises(ScopeError, match=r"room for a worker \(CPUs: 9\)"):
        workers_on(plain, Workers(cpus=9), 1)
    with pytest.raises(ScopeError, match=r"\(CPUs: 8, GPUs: 1\)"):
        workers_on(plain, Workers(cpus=8, gpus=1), 1)
    mixed = [{"CPU": 8}, {"CPU": 32, "GPU": 4}]
    assert workers_on(mixed, Workers(), 2) == Workers(4, 1, 1)
    assert workers_on(mixed, Workers(gpus=0.5), 2) == Workers(8, 1, 0.5)
    assert workers_on(mixed, Workers(gpus=2), 2) == Workers(2, 1, 2)
    assert workers_on(mixed, Workers(cpus=8, device="cpu"), 2) == Workers(2, 8, 0, "cpu")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize("command", ["snapshot", "import"])
def test_no_ray_is_imported_unless_it_is_used(tmp_path, command):
    written(tmp_path / "p.jsonl", PROMPTS[:1])
    code = (
        "import sys; import llmscope.jobs.workers; from llmscope.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'pyarrow' in sys.modules and 'ray' not in sys.modules"
    )
    if command == "import":
        code = "import sys, llmscope.jobs.workers; assert not {'ray', 'torch'} & set(sys.modules)"
    ask = ("snapshot", "builtin:sort", "--prompts", "p.jsonl", *LENSES, "--out", "o")
    subprocess.run([sys.executable, "-c", code, *ask], cwd=tmp_path, check=True, timeout=120)


def test_prompts_come_through_their_file_as_they_were(tmp_path):
    """A number that is a token's text in one line and its id in another stays what it was."""
    path = tmp_path / "p.jsonl"
    records = [
        {"prompt": "CAB", "target": "5", "score": 1, "more": {"a": [1]}},
        {"prompt": 3, "target": 5, "score": 0.5, "more": "\ud800"},
        {"prompt": "A", "target": None, "edits": ["zero:mlp.0"]},
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in records) + "{\n")
    source = PromptSource(str(path))
    inputs, _ = InputColumns.of(source)
    lines = list(source)
    (cell,) = stage_shard("shard-00000", lines, inputs)["prompts"].to_pylist()
    found = read_staged(cell)
    for line, (one, typed) in zip(lines, found, strict=True):
        assert (one.number, one.prompt, one.error) == (line.number, line.prompt, line.error)
        for name in {"target", "edits"} & line.inputs.keys():
            assert one.inputs[name] == line.inputs[name]
            assert type(one.inputs[name]) is type(line.inputs[name])
        assert dict(typed) == inputs.values(line)


@pytest.mark.parametrize("url", ["{}", "memory://{}"])
def test_the_steps_of_the_engine_give_the_bytes_of_the_local_one(tmp_path, url):
    """Without Ray between them: staged, predicted, put; also on a file system of fsspec."""
    path = written(tmp_path / "p.jsonl", [*PROMPTS, 3, "A" * 99], list(range(9)))
    batch(path, tmp_path / "local", "--shard-size", "4", "--tensors")
    source = PromptSource(str(path))
    tables = Tables(JOB, InputColumns.of(source)[0], tensors=True)
    out = storage(url.format(tmp_path / "o"))
    folder = BatchOutput(out, JobShare(size=4), {}, {}, tables)
    names = list(stage(folder, source, BatchProgress()))
    assert len(names) == 3
    scope, plan = (
        load("builtin:sort"),
        SimpleNamespace(looking=JOB, together=Together.of(16, JOB.lenses)),
    )
    worker = ShardPredictor(lambda: (scope, plan), plan, tables)
    rows = []
    for name in names:
        made = worker(parquet.read_table(pyarrow.BufferReader(out.read(name, "shard"))))
        rows.append(put(folder, made, 0))
        assert made.schema.equals(
            worker(stage_shard("x", [], tables.inputs)).schema
        )  # typed if empty
    assert [row["prompts"] for row in rows] == [4, 4, 1]
    assert [len(row["errors"]) for row in rows] == [0, 1, 1]
    assert rows[1]["errors"] == ["line 8: its prompt is no text"]
    assert list(stage(folder, source, BatchProgress())) == []  # all are there
    out.remove_folder(STAGED)
    assert STAGED not in out.names()
    local = files(tmp_path / "local")
    assert {name: out.read(name, "shard") for name in local} == local


def test_workers_whose_models_differ_end_the_batch(tmp_path):
    tables = Tables(JOB, InputColumns({}))
    with pytest.raises(ScopeError, match="not all the same"):
        ShardPredictor(lambda: (None, "torch 2"), "torch 1", tables)


@pytest.fixture
def no_gpu(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "get_gpu_ids", list)


def test_the_table_of_a_lens_for_a_pipeline_of_ones_own(tmp_path, no_gpu):
    prompts = pyarrow.table({"prompt": ["CAB", None, "ABC"], "line": [1, 2, 3], "id": ["xyz"] * 3})
    batch(written(tmp_path / "p.jsonl", ["CAB", None, "ABC"], ["xyz"] * 3), tmp_path / "o")
    for lens in JOB.lenses:
        worker = Predictor("builtin:sort", lens)
        assert worker(prompts).to_pylist() == table(tmp_path / "o", lens)
        assert worker(prompts.slice(1, 1)).schema.equals(worker(prompts).schema)
        assert len(worker(prompts.slice(1, 1))) == 0
        assert set(worker(prompts.drop_columns("line"))["line"].to_pylist()) == {None}


def test_a_row_a_prompt_of_several_lenses(tmp_path, no_gpu):
    prompts = pyarrow.table({"prompt": ["CAB", None, "ABC"], "line": [1, 2, 3]})
    batch(written(tmp_path / "p.jsonl", ["CAB", None, "ABC"]), tmp_path / "o")
    worker = Predictor("builtin:sort", lenses=JOB.lenses)
    found = worker(prompts)
    assert len(found) == 3
    for name in (*JOB.lenses, "prompts", "verdicts"):
        rows = [row for cell in found[name].to_pylist() for row in cell]
        local = [{k: v for k, v in row.items() if k != "id"} for row in table(tmp_path / "o", name)]
        assert rows == local
    assert found["prompts"].to_pylist()[1][0]["error"] == "it has no prompt"
    assert worker(prompts.slice(1, 1)).schema.equals(found.schema)


def test_options_of_a_predictor(no_gpu):
    prompts = pyarrow.table({"prompt": ["CAB"]})
    heads = Predictor("builtin:sort", "attention", layer="all", head="all")(prompts)
    own = load("builtin:sort").loaded_model.anatomy
    pairs = {(row["layer"], row["head"]) for row in heads.to_pylist()}
    assert pairs == {(a, b) for a in range(len(own.layers)) for b in range(own.heads)}
    row, *_ = Predictor("builtin:sort", "next-token", target="B")(prompts).to_pylist()
    assert row["target"] == "B"
    with pytest.raises(ValueError, match="either lens or lenses"):
        Predictor("builtin:sort")
    with pytest.raises(ValueError, match="no lens"):
        Predictor("builtin:sort", "nonsense")
