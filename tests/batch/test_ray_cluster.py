"""`--engine ray` on a cluster of two workers: the local engine's bytes, whoever dies on the way."""

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from llmscope.models.sources.builtin import home
from tests.batch.test_batch import LENSES, batch, files, written
from tests.cli.running import failure, run
from tests.models.checkpoints import edit_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("ray"),  # one cluster at a time
]
SIZE = ("--shard-size", "20")
RAY = ("--engine", "ray", "--workers", "2")
MAIN = "from llmscope.cli import main; main()"


BARE = "import ray; ray.init('local', num_cpus=1, include_dashboard=False); ray.shutdown()"


@pytest.fixture(scope="module", autouse=True)
def ray_itself():
    """Where Ray alone does not start there is nothing to hold against it."""
    try:
        alone = subprocess.run(
            [sys.executable, "-c", BARE],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Ray alone does not start here in four minutes")
    if alone.returncode:
        last = (alone.stderr.strip() or "nothing").splitlines()[-1]
        pytest.skip(f"Ray alone does not start here: {last}")


@pytest.fixture(autouse=True)
def own_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def chance_prompts(path, count, *more):
    chance = random.Random(0)
    texts = ["".join(chance.choices("ABC", k=chance.randint(1, 6))) for _ in range(count)]
    return written(path, [*texts, *more])


def started(prompts, out, *more, model="builtin:sort", stdin=None):
    """The command on a cluster of its own, in a process of its own."""
    command = [sys.executable, "-c", MAIN, "snapshot", str(model), "--prompts", str(prompts)]
    return subprocess.Popen(
        [*command, *LENSES, "--out", str(out), *SIZE, *RAY, *more],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, code=0):
    """What a command said on stderr; nothing of Ray's is among it."""
    out, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    assert out == ""
    assert all(line.startswith(("note: ", "error: ")) for line in said.splitlines()), said
    return said


def workers(process):
    """Processes of this command that hold a model."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if child.name().startswith("ray::MapWorker") or "_Worker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has just ended
            pass
    return found


def wait_for_shards(out, count, process):
    while len(list(out.glob("*.parquet"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def test_the_bytes_of_the_local_engine(tmp_path):
    prompts = chance_prompts(tmp_path / "p.jsonl", 130, "A" * 99, 3)
    batch(prompts, tmp_path / "local", *SIZE)
    said = ended(started(prompts, tmp_path / "ray"))
    assert files(tmp_path / "ray") == files(tmp_path / "local")
    assert "line 131: the prompt has 99 tokens" in said
    assert "line 132: its prompt is no text" in said
    assert "132 prompts, 2 failed: 7 shards in" in said
    again = batch(prompts, tmp_path / "ray", *SIZE)  # the local engine finds its own folder
    assert "132 were there already" in again.stderr


def test_jobs_on_a_cluster_and_stdin(tmp_path):
    prompts = chance_prompts(tmp_path / "p.jsonl", 70)
    for job in range(2):
        batch(prompts, tmp_path / "local", *SIZE, "--shard", f"{job}/2")
    with prompts.open() as stdin:
        ended(started("-", tmp_path / "ray", "--shard", "0/2", stdin=stdin))
    batch(prompts, tmp_path / "ray", *SIZE, "--shard", "1/2")
    assert files(tmp_path / "ray") == files(tmp_path / "local")


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    prompts, out = chance_prompts(tmp_path / "p.jsonl", 3000), tmp_path / "ray"
    batch(prompts, tmp_path / "local", *SIZE)
    process = started(prompts, out)
    wait_for_shards(out, 10, process)
    victim, *_ = workers(process)
    victim.send_signal(signal.SIGKILL)
    there = len(list(out.glob("*.parquet")))
    assert there < 100  # it was in the middle
    assert "3,000 prompts, 0 failed: 150 shards" in ended(process)
    assert files(out) == files(tmp_path / "local")


def test_a_command_that_is_killed_goes_on_with_either_engine(tmp_path):
    prompts, out = chance_prompts(tmp_path / "p.jsonl", 800), tmp_path / "ray"
    batch(prompts, tmp_path / "local", *SIZE)
    process = started(prompts, out)
    wait_for_shards(out, 5, process)
    family = psutil.Process(process.pid).children(recursive=True)
    # Two of Ray's, which hold no model, wait for what is gone for a minute before they end.
    family = [child for child in family if not child.name().endswith("Agent")]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list(out.glob("*.parquet"))) < 40
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []  # Ray's processes end with the command
    shutil.copytree(out, tmp_path / "copy")
    said = ended(started(prompts, out))
    assert "were there already: 40 shards" in said
    batch(prompts, tmp_path / "copy", *SIZE)
    assert files(out) == files(tmp_path / "copy") == files(tmp_path / "local")


def model_with_code(folder, what):
    """The built-in model with code of its own, which does that when it reads six times C."""
    shutil.copytree(home() / "sort", folder)
    (folder / "own.py").write_text(
        "import os\n"
        "from transformers import GPT2LMHeadModel\n"
        "class Own(GPT2LMHeadModel):\n"
        "    def forward(self, input_ids=None, **more):\n"
        "        if input_ids is not None and [2] * 6 in input_ids.tolist():\n"
        f"            {what}\n"
        "        return super().forward(input_ids=input_ids, **more)\n"
    )
    edit_config(folder, auto_map={"AutoModelForCausalLM": "own.Own"})


def test_a_model_that_fails_ends_the_batch(tmp_path):
    model_with_code(tmp_path / "m", "raise RuntimeError('the third day')")
    prompts = written(tmp_path / "p.jsonl", ["CAB"] * 40 + ["CCCCCC"] + ["CAB"] * 40)
    local = run(
        *("snapshot", tmp_path / "m", "--prompts", prompts, *LENSES, *SIZE),
        *("--trust-remote-code", "--out", tmp_path / "local"),
    )
    process = started(
        prompts, tmp_path / "ray", "--trust-remote-code", "--debug", model=tmp_path / "m"
    )
    said, _ = process.communicate()[1], process.wait()
    assert process.returncode == local.exit_code == 1
    assert said.splitlines()[-1] == local.stderr.splitlines()[-1]
    assert "the third day" in said.splitlines()[-1]
    assert "own.py" in said  # where it happened on the worker
    assert not (tmp_path / "ray" / "shard-00002.parquet").exists()
    manifest = json.loads((tmp_path / "ray" / "manifest.json").read_text())
    assert "complete" not in manifest


def test_prompts_that_kill_workers_are_named(tmp_path):
    model_with_code(tmp_path / "m", "os.kill(os.getpid(), 9)")
    prompts = written(tmp_path / "p.jsonl", ["CAB"] * 40 + ["CCCCCC"] + ["CAB"] * 10)
    process = started(prompts, tmp_path / "ray", "--trust-remote-code", model=tmp_path / "m")
    said = ended(process, code=1)
    assert "4 workers died over the prompts of lines 41 to 51" in said
    assert not (tmp_path / "ray" / "shard-00002.parquet").exists()


def test_what_is_wrong_with_the_command_is_told_as_ever(tmp_path):
    prompts = chance_prompts(tmp_path / "p.jsonl", 3)
    said = ended(started(prompts, tmp_path / "ray", "--target", "Q"), code=1)
    local = failure(
        *("snapshot", "builtin:sort", "--prompts", prompts, *LENSES, "--target", "Q"),
        *("--out", tmp_path / "local"),
    )
    assert said == local


@pytest.fixture
def somebodys_cluster(monkeypatch):
    """A cluster that runs already, elsewhere, and has two GPUs, as it says."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
        command += ["--head", "--block", "--port", address.partition(":")[2], "--num-cpus", "2"]
        command += ["--num-gpus", "2", "--include-dashboard=false", "--temp-dir", folder]
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not any(Path(folder).glob("session_2*/sockets/raylet")):
            assert process.poll() is None
            time.sleep(0.1)
        monkeypatch.setenv("RAY_ADDRESS", address)
        yield process
        process.terminate()
        process.wait(60)


def test_a_cluster_that_runs_already_and_its_gpus(tmp_path, monkeypatch, somebodys_cluster):
    (tmp_path / "seen").mkdir()
    mark = f"open({str(tmp_path / 'seen')!r} + '/' + os.environ['CUDA_VISIBLE_DEVICES'], 'w')"
    model_with_code(tmp_path / "m", mark)
    written(tmp_path / "p.jsonl", ["CCCCCC"] * 50)
    monkeypatch.chdir(tmp_path)  # names that are relative to another folder than the cluster's
    trust = ("--trust-remote-code", "--gpus-per-worker")
    ask = (*trust, "1", "--engine", "ray")
    assert "50 prompts, 0 failed" in ended(started("p.jsonl", Path("o"), *ask, model="./m"))
    seen = {path.name for path in (tmp_path / "seen").iterdir()}
    assert seen
    assert seen <= {"0", "1"}
    said = ended(started("p.jsonl", Path("p"), *trust, "3", model="./m"), code=1)
    assert "GPUs: 3" in said
    assert somebodys_cluster.poll() is None  # it is not ours to end
