"""Writing a run touches regular files that the run names, and nothing that they lead to."""

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from llmscope.errors import ScopeError
from llmscope.runs import format as form
from llmscope.runs.reader import RunReader
from llmscope.runs.writer import RunWriter
from tests.runs.making import figures, info, line, written

ROOT = Path(__file__).resolve().parents[2]
DECOY = b"not of this run"


@pytest.fixture
def run(tmp_path):
    return written(tmp_path / "run")


@pytest.fixture
def decoys(tmp_path):
    """A folder beside the run, whose files must stay as they are."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("model.safetensors", "00000010.safetensors", "steps.jsonl", ".lock", "run.json"):
        (folder / name).write_bytes(DECOY)
    yield folder
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == dict.fromkeys(
        ("model.safetensors", "00000010.safetensors", "steps.jsonl", ".lock", "run.json"), DECOY
    )


def linked(path, target):
    if path.is_dir() and not path.is_symlink():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def record(folder, step=50, **options):
    RunWriter(folder, info(), **options).add(figures(step), line(step), began=perf_counter())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [form.INDEX, form.SHARDS, form.BASE, form.INFO])
def test_what_a_link_leads_to_is_not_written(run, decoys, name, overwrite):
    target = decoys if name == form.SHARDS else decoys / "steps.jsonl"
    linked(run / name, target)
    with pytest.raises(ScopeError) as caught:
        RunWriter(run, info(), overwrite=overwrite).clear()
    assert "link" in caught.value.message or "folder of its own" in caught.value.message
    assert caught.value.hint == "another folder"


def test_a_second_name_of_a_foreign_file_is_not_appended_to(run, decoys):
    (run / form.INDEX).unlink()
    os.link(decoys / "steps.jsonl", run / form.INDEX)
    with pytest.raises(ScopeError, match="second name of another file"):
        record(run)


def test_a_link_that_comes_after_the_run_began_is_not_followed(run, decoys):
    writer = RunWriter(run, info())
    linked(run / form.INDEX, decoys / "steps.jsonl")
    with pytest.raises(ScopeError, match="is a link"):
        writer.log(60, {"loss": 1.0}, time=1.0)
    with pytest.raises(ScopeError, match="is a link"):
        writer.add(figures(60), line(60), began=perf_counter())
    linked(run / form.SHARDS, decoys)
    (run / form.INDEX).unlink()
    with pytest.raises(ScopeError, match="folder of its own"):
        writer.add(figures(60), line(60), began=perf_counter())


def test_replacing_a_run_leaves_what_its_index_does_not_name(run):
    foreign = run / form.SHARDS / "model.safetensors"
    foreign.write_bytes(DECOY)
    named = {one.shard for one in RunReader(run).steps}
    record(run, 7, overwrite=True)
    writer = RunWriter(run, info(prompts=1), overwrite=True)
    writer.add(figures(3, prompts=1), line(3), began=perf_counter())
    assert foreign.read_bytes() == DECOY
    left = {one.name for one in (run / form.SHARDS).iterdir()}
    assert left == {"model.safetensors", "00000003.safetensors"}
    assert len(named) == 5


def test_an_index_that_names_files_elsewhere_removes_none(run, decoys):
    linked(run / form.SHARDS / "evil.safetensors", decoys / "model.safetensors")
    with (run / form.INDEX).open("a") as index:
        for at, name in enumerate(
            ("../../elsewhere/model.safetensors", "evil.safetensors", "../run.json", "..")
        ):
            index.write(json.dumps({"kind": "step", "step": 99 + at, "time": 1, "shard": name}))
            index.write("\n")
    RunWriter(run, info()).clear()
    assert [one.name for one in (run / form.SHARDS).iterdir()] == ["evil.safetensors"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", [form.INDEX, form.BASE, form.INFO, form.SHARDS])
def test_a_pipe_is_refused_and_not_waited_for(run, name):
    linked(run / name, "nowhere")
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ScopeError, match=r"no regular file|no folder of its own"):
        record(run, overwrite=True)


def test_a_lock_that_is_a_link_is_replaced(run, decoys):
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(decoys / ".lock")
    record(run)
    assert len(RunReader(run).steps) == 6


HOLDER = """
import sys
from pathlib import Path
from time import perf_counter
from llmscope.runs.writer import RunWriter
from tests.runs.making import figures, info, line

writer = RunWriter(Path(sys.argv[1]), info())
writer.add(figures(60), line(60), began=perf_counter())
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that records into the folder until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "run"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "written\n"
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_process_is_refused(tmp_path, holder, overwrite):
    with pytest.raises(ScopeError, match="another process writes to") as caught:
        RunWriter(tmp_path / "run", info(), overwrite=overwrite)
    assert "wait for its end" in caught.value.hint
    holder.kill()
    holder.wait()
    assert RunWriter(tmp_path / "run", info()).last == 60


def test_of_two_processes_that_begin_at_once_one_is_refused(tmp_path):
    mine = RunWriter(tmp_path / "run", info())
    written(tmp_path / "run", steps=(1,))
    with pytest.raises(ScopeError, match="holds a run of another process"):
        mine.add(figures(2), line(2), began=perf_counter())
    assert [one.step for one in RunReader(tmp_path / "run").steps] == [1]


@pytest.mark.few(2)
@pytest.mark.timeout(60)  # quadratic time would be minutes
@pytest.mark.parametrize("kind", ["steps", "logs", "stages", "checkpoints"])
def test_an_index_of_falling_steps_is_read_in_one_pass(tmp_path, kind):
    source = "checkpoints" if kind == "checkpoints" else "training"
    folder = written(tmp_path / "run", steps=(0,), source=source)
    count = 60_000
    with (folder / form.INDEX).open("a") as index:
        for at in range(count, 0, -1):
            entry = {"kind": "step", "step": at, "time": 1, "shard": "x", "scalars": {"a": at}}
            if kind == "logs":
                entry = {"kind": "log", "step": at, "time": 1, "scalars": {"a": at}}
            elif kind == "stages":
                entry |= {"step": 5, "stage": str(at)}
            index.write(json.dumps(entry) + "\n")
    reader = RunReader(folder)
    want = {"steps": 2, "logs": 1, "stages": count + 1, "checkpoints": count + 1}[kind]
    assert len(reader.steps) == want
    assert [one.step for one in reader.steps] == sorted(one.step for one in reader.steps)
    steps, values = reader.logged("a")
    if kind in ("logs", "checkpoints"):
        assert steps.tolist() == values.tolist() == list(range(1, count + 1))
    elif kind == "steps":
        assert steps.tolist() == [1]
