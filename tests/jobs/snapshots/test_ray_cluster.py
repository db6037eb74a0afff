"""`--engine ray` on clusters of this machine: the local engine's rows, whoever is killed."""

import json
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import psutil
import pyarrow.dataset
import pytest

from llmscope.models.sources.builtin import home
from tests.cli.running import failure, run
from tests.jobs.snapshots.test_batch import LENSES, batch, files, shards, table, written
from tests.models.checkpoints import edit_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.endurance,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
    pytest.mark.timeout(2700),
    pytest.mark.xdist_group("ray"),  # one cluster at a time
]
SIZE = ("--shard-size", "20")
RAY = ("--engine", "ray", "--workers", "2", "--threads", "1")
MAIN = "from llmscope.cli import main; main()"
TABLES = (*LENSES[1::2], "prompts", "verdicts")
NICE = {"RAY_worker_niceness": "0"}
"""Ray gives its workers the least of a busy machine's time, which other tests take."""
BARE = "import ray; ray.init('local', num_cpus=1); ray.shutdown()"


@pytest.fixture(scope="module", autouse=True)
def ray_itself():
    """Where Ray alone does not start there is nothing to hold against it."""
    try:
        alone = subprocess.run(
            [sys.executable, "-c", BARE],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"} | NICE,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("Ray alone does not start here in four minutes")
    if alone.returncode:
        last = (alone.stderr.strip() or "nothing").splitlines()[-1]
        pytest.skip(f"Ray alone does not start here: {last}")


@pytest.fixture
def own_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in NICE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def running_cluster():
    """A cluster that runs already and has two GPUs, as it says."""
    added = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        **NICE,
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start"]
        command += ["--head", "--block", "--port", address.partition(":")[2], "--num-cpus", "2"]
        command += ["--num-gpus", "2", "--include-dashboard=false", "--temp-dir", folder]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | added,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not any(Path(folder).glob("session_2*/sockets/raylet")):
            assert process.poll() is None
            time.sleep(0.1)
        yield process, added | {"RAY_ADDRESS": address}
        process.terminate()
        process.wait(60)


@pytest.fixture
def on_cluster(running_cluster, monkeypatch):
    process, added = running_cluster
    for name, value in added.items():
        monkeypatch.setenv(name, value)
    return process


def chance_prompts(path, count, *more):
    chance = random.Random(0)
    texts = ["".join(chance.choices("ABC", k=chance.randint(1, 6))) for _ in range(count)]
    return written(path, [*texts, *more])


def started(prompts, out, *more, model="builtin:sort", stdin=None):
    """The command in a process of its own."""
    command = [sys.executable, "-c", MAIN, "snapshot", str(model), "--prompts", str(prompts)]
    path = Path(f"{out}.log").absolute()
    with path.open("w") as log:  # a pipe that is not read would hold up the command
        process = subprocess.Popen(
            [*command, *LENSES, "--out", str(out), *SIZE, *RAY, *more],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    process.log = path
    return process


def said_by(process):
    process.wait(1200)
    return process.log.read_text()


def ended(process, code=0):
    """The lines of llmscope itself at the end, beside which Ray says what it says."""
    said = said_by(process)
    assert process.returncode == code, said
    return "\n".join(line for line in said.splitlines() if line.startswith(("note: ", "error: ")))


def same_rows(one, other):
    assert all(table(one, name) == table(other, name) for name in TABLES)


def test_two_workers_give_the_rows_of_one_process(tmp_path, own_cluster):
    prompts = chance_prompts(tmp_path / "p.jsonl", 330, "A" * 99, 3)
    batch(prompts, tmp_path / "local", *SIZE, "--tensors")
    said = ended(started(prompts, tmp_path / "ray", "--tensors"))
    same_rows(tmp_path / "ray", tmp_path / "local")
    assert files(tmp_path / "ray") == files(tmp_path / "local")  # and their bytes
    assert "line 331: the prompt has 99 tokens" in said
    assert "line 332: its prompt is no text" in said
    assert "332 prompts, 2 failed: 17 shards in" in said
    manifests = [
        json.loads((tmp_path / one / "manifest.json").read_text()) for one in ("ray", "local")
    ]
    assert manifests[0]["digest"] == manifests[1]["digest"]
    assert manifests[0]["complete"] == manifests[1]["complete"]
    again = batch(prompts, tmp_path / "ray", *SIZE, "--tensors")  # the local engine finds it done
    assert "332 were there already" in again.stderr


def test_jobs_on_a_cluster_and_stdin(tmp_path, on_cluster):
    prompts = chance_prompts(tmp_path / "p.jsonl", 70)
    for job in range(2):
        batch(prompts, tmp_path / "local", *SIZE, "--shard", f"{job}/2")
    with prompts.open() as stdin:
        ended(started("-", tmp_path / "ray", "--shard", "0/2", stdin=stdin))
    batch(prompts, tmp_path / "ray", *SIZE, "--shard", "1/2")
    assert files(tmp_path / "ray") == files(tmp_path / "local")


def model_with_code(folder, what, when="[2] * 6 in input_ids.tolist()"):
    """The built-in model with code of its own, which does that when it reads six times C."""
    shutil.copytree(home() / "sort", folder)
    (folder / "own.py").write_text(
        "import glob, os, time\n"
        "from transformers import GPT2LMHeadModel\n"
        "class Own(GPT2LMHeadModel):\n"
        "    def forward(self, input_ids=None, **more):\n"
        f"        if input_ids is not None and {when}:\n"
        f"            {what}\n"
        "        return super().forward(input_ids=input_ids, **more)\n"
    )
    edit_config(folder, auto_map={"AutoModelForCausalLM": "own.Own"})


def of_ray(cluster, name):
    """Processes of a cluster whose titles begin with a name."""
    found = []
    for one in psutil.Process(cluster.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if " ".join(one.cmdline()).startswith(f"ray::{name}"):
                found.append(one)
    return found


WAITS = """
            import fcntl
            [name] = ["".join(map(str, row)) for row in input_ids.tolist() if row[0] == 2]
            while True:
                with open({tickets!r} + ".lock", "w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    taken = os.listdir({tickets!r})
                    if name in taken or len(taken) < int(open({allowed!r}).read()):
                        open({tickets!r} + "/" + name, "w").close()
                        break
                time.sleep(0.05)
"""
"""What the model does before the one prompt of a shard that begins with C: take the shard's ticket.

A shard that is predicted again has its ticket already. Where all tickets that the test allows are
taken, the model waits.
"""


def shards_with_names(path, count, seed=0):
    """Write prompts of `count` shards of 20 and one bad row; one prompt a shard begins with C."""
    chance = random.Random(seed)
    names = chance.sample(["C" + "".join(rest) for rest in product("ABC", repeat=5)], count)
    texts = []
    for name in names:
        others = ["".join(chance.choices("AB", k=chance.randint(1, 6))) for _ in range(19)]
        texts += [name, *others]
    return written(path, [*texts, 7])


def test_twenty_kills_lose_and_double_nothing(tmp_path, on_cluster):
    """Of workers, of tasks that write, and of the command, which is then begun again.

    However fast the machine, the job cannot end before the twentieth kill: each kill and each start
    of the command allow it one more shard, and it has 51.
    """
    prompts, out = shards_with_names(tmp_path / "p.jsonl", 50), tmp_path / "ray"
    allowed, tickets = tmp_path / "allowed", tmp_path / "tickets"
    tickets.mkdir()
    waits = WAITS.format(tickets=str(tickets), allowed=str(allowed))
    has_name = "input_ids.shape[1] == 6 and 2 in input_ids[:, 0].tolist()"
    model_with_code(tmp_path / "m", waits, when=has_name)
    more = ("--trust-remote-code", "--gpus-per-worker", "0")
    chance, kills, process, before = random.Random(1), [], None, 0
    commands = chance.sample(range(20), 3)

    def allow(count):
        (tmp_path / "next").write_text(str(count))
        (tmp_path / "next").replace(allowed)  # the model never reads half a number

    def one_more():
        return len(list(tickets.iterdir())) + 1

    while process is None or process.poll() is None or process.returncode:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 1:  # more deaths than Ray goes on over
                assert "the same command goes on" in said_by(process)
            before = len(shards(out))
            allow(one_more() if len(kills) < 20 else 10**6)
            process = started(prompts, out, *more, model=tmp_path / "m")
        time.sleep(chance.uniform(0.2, 3))
        if len(kills) == 20 or len(shards(out)) == before:
            continue  # not before it is at work
        what = "command" if len(kills) in commands else chance.choice(("worker", "worker", "write"))
        victims, limit = [process], one_more()
        if what == "write" or (what == "worker" and "write" not in kills):
            what, victims = "write", []
            allow(limit)  # a task that writes is short: let one run, and wait for it
            until = time.monotonic() + 5
            while not victims and time.monotonic() < until and process.poll() is None:
                victims = of_ray(on_cluster, "Write")
            what = what if victims else "worker"
        if what == "worker":
            victims = of_ray(on_cluster, "MapWorker(MapBatches(ShardPredictor")
        if victims:
            chance.choice(victims).kill()
            kills.append(what)
            allow(limit if len(kills) < 20 else 10**6)
    said = said_by(process)
    assert len(kills) == 20, (kills, len(shards(out)))
    assert {"worker", "command"} < set(kills)
    assert "1,001 prompts, 1 failed" in said
    batch(prompts, tmp_path / "local", *SIZE, more[0], model=tmp_path / "m")
    same_rows(out, tmp_path / "local")
    assert {row["line"] for row in table(out)} == set(range(1, 1002))
    assert {path.name for path in out.iterdir()} == {*TABLES, "manifest.json"}
    assert all(re.fullmatch(r"shard-\d{5}\.parquet", path.name) for path in out.glob("*/*"))


def test_a_model_that_fails_ends_the_batch(tmp_path, on_cluster):
    model_with_code(tmp_path / "m", "raise RuntimeError('the third day')")
    prompts = written(tmp_path / "p.jsonl", ["CAB"] * 40 + ["CCCCCC"] + ["CAB"] * 40)
    trust = ("--trust-remote-code", "--gpus-per-worker", "0")
    local = run(
        *("snapshot", tmp_path / "m", "--prompts", prompts, *LENSES, *SIZE, trust[0]),
        *("--out", tmp_path / "local"),
    )
    said = ended(started(prompts, tmp_path / "ray", *trust, model=tmp_path / "m"), code=1)
    assert local.exit_code == 1
    assert said.splitlines()[-1] == local.stderr.splitlines()[-1]
    assert "the third day" in said.splitlines()[-1]
    assert not (tmp_path / "ray" / "prompts" / "shard-00002.parquet").exists()
    manifest = json.loads((tmp_path / "ray" / "manifest.json").read_text())
    assert "complete" not in manifest


def test_prompts_that_kill_workers_end_the_batch_or_are_left_out(tmp_path, on_cluster):
    model_with_code(tmp_path / "m", "os.kill(os.getpid(), 9)")
    prompts = written(tmp_path / "p.jsonl", ["CAB"] * 40 + ["CCCCCC"] + ["CAB"] * 30)
    trust = ("--trust-remote-code", "--gpus-per-worker", "0")
    said = ended(started(prompts, tmp_path / "ray", *trust, model=tmp_path / "m"), code=1)
    assert "Ray stopped: " in said
    allowed = (*trust, "--max-errored-blocks", "1")
    said = ended(started(prompts, tmp_path / "ray", *allowed, model=tmp_path / "m"), code=1)
    assert " shards are missing" in said
    names = [path.stem for path in shards(tmp_path / "ray")]
    assert names == ["shard-00000", "shard-00001", "shard-00003"]


def test_what_is_wrong_with_the_command_is_told_as_ever(tmp_path, on_cluster):
    prompts = chance_prompts(tmp_path / "p.jsonl", 3)
    said = ended(started(prompts, tmp_path / "ray", "--target", "Q"), code=1)
    local = failure(
        *("snapshot", "builtin:sort", "--prompts", prompts, *LENSES, "--target", "Q"),
        *("--out", tmp_path / "local"),
    )
    assert said == local.strip()


def test_a_cluster_that_runs_already_and_its_gpus(tmp_path, monkeypatch, on_cluster):
    (tmp_path / "seen").mkdir()
    mark = f"open({str(tmp_path / 'seen')!r} + '/' + os.environ['CUDA_VISIBLE_DEVICES'], 'w')"
    model_with_code(tmp_path / "m", mark)
    written(tmp_path / "p.jsonl", ["CCCCCC"] * 50)
    monkeypatch.chdir(tmp_path)  # names that are relative to another folder than the cluster's
    trust = ("--trust-remote-code", "--gpus-per-worker")
    assert "50 prompts, 0 failed" in ended(started("p.jsonl", Path("o"), *trust, "1", model="./m"))
    seen = {path.name for path in (tmp_path / "seen").iterdir()}
    assert seen
    assert seen <= {"0", "1"}
    said = ended(started("p.jsonl", Path("p"), *trust, "3", model="./m"), code=1)
    assert "GPUs: 3" in said
    assert on_cluster.poll() is None  # it is not ours to end


PIPELINE = """
import sys
import ray
from llmscope.jobs.workers import Predictor

ray.init()
prompts, out = sys.argv[1:]
ray.data.read_json(prompts, lines=True).map_batches(
    Predictor,
    fn_constructor_kwargs={"model": "builtin:sort", "lens": "logit-lens"},
    compute=ray.data.ActorPoolStrategy(size=2),
    batch_size=16,
    batch_format="pyarrow",
    num_cpus=0.5,
).write_parquet(out)
"""


def test_a_pipeline_of_ones_own(tmp_path, on_cluster):
    chance = random.Random(0)
    texts = ["".join(chance.choices("ABC", k=chance.randint(1, 6))) for _ in range(60)]
    records = [{"line": at, "prompt": text, "score": at / 2} for at, text in enumerate(texts, 1)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    batch(path, tmp_path / "local", lenses=("--lens", "logit-lens"))
    subprocess.run(
        [sys.executable, "-c", PIPELINE, str(path), str(tmp_path / "o")], check=True, timeout=300
    )
    found = pyarrow.dataset.dataset(tmp_path / "o").to_table().to_pylist()
    local = [
        {name: value for name, value in row.items() if name != "line_input"}
        for row in table(tmp_path / "local", "logit-lens")
    ]
    local.sort(key=lambda row: (row["line"], row["layer"], row["position"]))
    found.sort(key=lambda row: (row["line"], row["layer"], row["position"]))
    assert len(found) == len(local) > 60
    for one, other in zip(found, local, strict=True):  # other prompts went through together
        assert one == {
            name: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
            for name, value in other.items()
        }
