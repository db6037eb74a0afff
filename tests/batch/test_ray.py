"""`--engine ray` as far as it needs no Ray: what is refused, and what workers ask for."""

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from llmscope.batch.ray_cluster import WorkerRequest, WorkerShare, own_folder, place_on
from llmscope.errors import ScopeError
from tests.batch.test_batch import LENSES, PROMPTS, written
from tests.cli.running import failure


def test_wrong_usage(tmp_path):
    prompts = written(tmp_path / "p.jsonl")
    ask = ("snapshot", "--prompts", prompts, *LENSES, "--out", tmp_path / "o")
    assert "--engine ray" in failure(*ask, "--workers", "2", code=2)
    assert "--engine ray" in failure(*ask, "--gpus-per-worker", "1", code=2)
    assert "local or ray" in failure(*ask, "--engine", "slurm", code=2)
    assert "a whole number" in failure(*ask, "--engine", "ray", "--gpus-per-worker", "1.5", code=2)
    one = ("snapshot", *LENSES, "--prompt", "A", "--engine", "ray")
    assert "--prompts" in failure(*one, code=2)
    assert not (tmp_path / "o").exists()


def test_without_ray_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("llmscope.batch.ray_cluster.find_spec", lambda name: None)
    ask = ("snapshot", "--prompts", written(tmp_path / "p.jsonl"), *LENSES, "--out", tmp_path / "o")
    assert "pip install 'ray[data]'" in failure(*ask, "--engine", "ray")


def test_a_ray_client_is_no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setattr("llmscope.batch.ray_cluster.find_spec", lambda name: True)
    ask = ("snapshot", "--prompts", written(tmp_path / "p.jsonl"), *LENSES, "--out", tmp_path / "o")
    assert "a machine of the cluster" in failure(*ask, "--engine", "ray")


def test_a_long_path_of_the_cache_is_no_place_for_sockets(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMSCOPE_CACHE", str(tmp_path / ("x" * 60)))
    told = []
    with own_folder(told.append) as folder:
        assert folder.is_dir()
        assert len(str(folder)) < 40
    assert not folder.exists()
    assert str(folder) in told[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /tmp")
def test_the_files_of_those_that_were_killed_are_removed(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("LLMSCOPE_CACHE", short)
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        with own_folder(print) as sessions:
            assert sessions.parent == Path(short)
        for number in (gone.pid, os.getpid(), os.getppid()):
            (sessions / f"session_2026-01-01_00-00-00_000000_{number}").mkdir(parents=True)
        with own_folder(print) as folder:
            assert folder == sessions
            assert len(list(folder.iterdir())) == 2
        assert [path.name[-9:].split("_")[-1] for path in folder.iterdir()] == [str(os.getppid())]


def machine(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


def test_what_workers_get():
    plain = [machine(CPU=8), machine(CPU=2), machine(CPU=64, alive=False)]
    assert place_on(plain, WorkerRequest(threads=2)) == WorkerShare(2, 2, 0)
    assert place_on(plain, WorkerRequest(threads=4)) == WorkerShare(1, 4, 0)
    assert place_on(plain, WorkerRequest(7, 4)) == WorkerShare(7, 4, 0)
    with pytest.raises(ScopeError, match=r"room for a worker \(CPUs: 9\)"):
        place_on(plain, WorkerRequest(threads=9))
    with pytest.raises(ScopeError, match=r"\(CPUs: 8, GPUs: 1\)"):
        place_on(plain, WorkerRequest(threads=8, gpus=1))
    mixed = [machine(CPU=8), machine(CPU=32, GPU=4)]
    assert place_on(mixed, WorkerRequest()) == WorkerShare(4, 1, 1)
    assert place_on(mixed, WorkerRequest(gpus=0.5)) == WorkerShare(8, 1, 0.5)
    assert place_on(mixed, WorkerRequest(gpus=2)) == WorkerShare(2, 1, 2)
    assert place_on(mixed, WorkerRequest(threads=8, device="cpu")) == WorkerShare(2, 8, 0)


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_the_local_engine_imports_no_ray(tmp_path):
    written(tmp_path / "p.jsonl", PROMPTS[:1])
    code = (
        "import sys; from llmscope.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'pyarrow' in sys.modules and 'ray' not in sys.modules"
    )
    ask = ("snapshot", "builtin:sort", "--prompts", "p.jsonl", *LENSES, "--out", "o")
    subprocess.run([sys.executable, "-c", code, *ask], cwd=tmp_path, check=True, timeout=120)
