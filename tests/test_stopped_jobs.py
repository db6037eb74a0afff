"""Long jobs that are stopped again and again lose no finished prompt, and compute none twice."""

import json
import re
import subprocess
import sys

import pytest
from safetensors.numpy import load_file

import llmscope
from tests.learned.texts import TEXTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is neither fork nor SIGKILL")

STOPPER = """
import json, os, random, signal, sys, time
from pathlib import Path
import peft, pyarrow.parquet, torch
import transformers.models.llama.modeling_llama
import llmscope, llmscope.scope.scope, llmscope.jobs.snapshots.run, llmscope.jobs.examples.collect
import llmscope.jobs.compare.run
import llmscope.jobs.fit_lens.fit_jacobian, llmscope.jobs.fit_lens.fit_tuned
from llmscope.record.capture.recorder import Recorder
import llmscope.cli.app, llmscope.cli.commands.batch_run
from llmscope.cli import main

folder, words, stops, seed = Path(sys.argv[1]), json.loads(sys.argv[2]), *map(int, sys.argv[3:])
log, said = folder / "log", folder / "said"
def logged(method, rows_of):
    def run(recorder, *given, **more):
        rows = [list(row) for row in rows_of(*given) if len(row) >= 20]  # of no probe
        if rows:
            os.write(LOG, (json.dumps([RUN, rows]) + "\\n").encode())
        return method(recorder, *given, **more)
    return run

def activations(out):
    scope = llmscope.load("builtin:town", device="cpu", threads=1)
    prompts = [line for line in (folder / "texts.txt").read_text().split("\\n") if line]
    scope.save_activations(prompts, ["layers.*.resid_post"], out, shard_size=400)

def start(out, run):
    child = os.fork()
    if child:
        return child
    global LOG, RUN
    LOG, RUN = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), run
    Recorder.run = logged(Recorder.run, lambda ids: ids)
    Recorder.record = logged(Recorder.record, lambda prompt, *_: [prompt.ids])
    Recorder.go_on = logged(Recorder.go_on, lambda base, prompt, *_: [prompt.ids])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
    code = 0
    try:
        if words[0] == "activations":
            activations(out)
        else:
            sys.argv = ["llmscope", *words, "--threads", "1", "--out", out]
            main()
    except SystemExit as end:
        code = end.code or 0
    os._exit(code)

def lines():
    return log.read_bytes().count(b"\\n") if log.exists() else 0

def ended(child, wait):
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid or wait():
            return pid, status
        time.sleep(0.0005)

suffix = ".safetensors" if words[0] == "fit" else ""
whole, parts = str(folder / f"whole{suffix}"), str(folder / f"parts{suffix}")
assert ended(start(whole, "whole"), lambda: False)[1] == 0, said.read_text()
whole_passes, chance = lines(), random.Random(seed)
signals = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
for number in range(stops):
    begin, aim = lines(), chance.uniform(0.3, 2.2) * whole_passes / (stops + 1)
    child = start(parts, number)
    pid, status = ended(child, lambda: lines() - begin >= aim)
    if pid:
        break
    time.sleep(chance.random() * 0.02)
    os.kill(child, signals[number % 3])
    os.waitpid(child, 0)
    if suffix and Path(parts).exists():  # the signal came behind the last write
        status = 0
        break
else:
    status = ended(start(parts, "last"), lambda: False)[1]
assert status == 0, said.read_text()
"""

JOBS = {
    "batch": ("snapshot builtin:town --lens tokens --lens logit-lens --batch-size 4", 80, 0),
    "shards": ("snapshot builtin:town --lens tokens --batch-size 4 --shard-size 30", 80, 0),
    "one by one": ("snapshot builtin:town --lens ablation --batch-size 1", 12, 0),
    "examples": ("examples builtin:town --neuron 1.5 --head 3.1", 150, 1),
    "compare": ("compare builtin:town builtin:town-pirate --resamples 50", 150, 0),
    "jacobian": ("fit jacobian builtin:town --skip 2 --length 30 --float32", 14, 1),
    "tuned": ("fit tuned builtin:town --skip 2 --length 30 --float32 --steps 12", 14, 1),
    "activations": ("activations", 150, 2),
}
"""Command of each job, its prompts, and the passes that check the model again where it goes on."""
BEHIND = re.compile(r"going on behind (\d+) finished (?:prompt|text)")


def stopped(tmp_path, name, stops, seed=0):
    """Stop a job several times.

    Returns:
        the passes of each run by its name: the prompts of each, by their numbers; and the notes.
    """
    command, count, _ = JOBS[name]
    turned = [(text.split(), 3 * turn) for turn in range(3) for text in TEXTS]
    texts = [" ".join(words[first:] + words[:first]) for words, first in turned][:count]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    words = command.split()
    if words[0] != "activations":
        words += ["--prompts", str(tmp_path / "texts.txt")]
    given = [sys.executable, "-c", STOPPER, str(tmp_path), json.dumps(words), str(stops), str(seed)]
    done = subprocess.run(given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scope, runs = llmscope.load("builtin:town"), {}
    numbers = {tuple(scope.encode(text).ids)[:20]: at for at, text in enumerate(texts)}
    assert len(numbers) == count
    for line in (tmp_path / "log").read_text().splitlines():
        run, rows = json.loads(line)
        passes = runs.setdefault(run, [])
        found = {numbers.get(tuple(row[:20])) for row in rows} - {None}
        if found and passes[-1:] != [found]:  # a prompt may take several passes
            passes.append(found)
    return runs, (tmp_path / "said").read_text()


def files_of(folder):
    """All files by their paths, without the folder's name; tensors where their order is chance."""
    files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.is_file():
            data = path.read_bytes()
            name = str(path.relative_to(folder))
            files[name] = data.replace(b"parts", b"whole")
            if name.startswith("shard") and path.suffix == ".safetensors":
                tensors = load_file(path)
                files[name] = {name: tensors[name].tobytes() for name in sorted(tensors)}
    return files


def begin_of(passes, whole, earliest, checks):
    """Return where the passes of a run begin among those of a run that was not stopped.

    Args:
        passes: those of the run; the first few may check the model.
        whole: those of the other run.
        earliest: where they begin at the earliest.
        checks: how many check the model at most.
    """
    for first in range(checks + 1):  # a pass that begins anew is no check of the one before it
        for begin in (earliest + 1, max(earliest, 0)):
            if passes[first:] == whole[begin : begin + len(passes) - first]:
                return begin, begin + len(passes) - first
    raise AssertionError(f"{passes} is not {whole[earliest:]}")


def check(tmp_path, name, stops, seed=0):
    """Stop a job so many times, and check what each run computed and what they wrote."""
    runs, notes = stopped(tmp_path, name, stops, seed)
    whole, checks = runs.pop("whole"), JOBS[name][2]
    reached, cut = 0, 0
    for number, passes in enumerate(runs.values()):
        # Only the last pass of a run may be begun again: it was not finished.
        begin, end = begin_of(passes, whole, reached - 1, checks if number else 0)
        reached, cut = max(reached, end), cut + (begin > 0)
    assert reached == len(whole)
    suffix = ".safetensors" if name in ("jacobian", "tuned") else ""
    expected, found = (files_of(tmp_path / f"{one}{suffix}") for one in ("whole", "parts"))
    assert found == expected
    numbers = [int(number) for number in BEHIND.findall(notes)]
    assert numbers == sorted(numbers)
    assert name == "activations" or len(numbers) >= cut
    assert "Traceback" not in notes or name == "activations"
    return cut


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.slow
def test_a_stopped_job_goes_on_behind_what_it_finished(tmp_path, name):
    """By SIGKILL, SIGTERM and SIGINT, in the middle of passes."""
    assert check(tmp_path, name, 3)


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_is_stopped_twenty_times_gives_what_one_run_gives(tmp_path, name):
    cut = 0
    for seed in range(1, 40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        cut += check(folder, name, 5, seed)
        if cut >= 20:
            return
    raise AssertionError(f"only {cut} runs were stopped in the middle")
