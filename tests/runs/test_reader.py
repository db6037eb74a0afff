"""A run folder that is whole, grows, is half written or damaged."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.runs import format as form
from llmscope.runs.reader import RunReader
from llmscope.runs.writer import RunWriter
from tests.runs.making import figures, info, line, written

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    return written(tmp_path / "run")


def steps_of(folder):
    return [one.step for one in RunReader(folder).steps]


def test_all_that_was_written_is_read(run):
    reader = RunReader(run)
    assert [one.step for one in reader.steps] == [0, 10, 20, 30, 40]
    assert reader.flaws == {}
    for one in reader.steps:
        want = figures(one.step)
        found = reader.figures(one)
        assert found.keys() == want.keys()
        for key, figure in found.items():
            np.testing.assert_array_equal(figure.values, want[key].values)
            assert figure.verdict.status == "verified"
    steps, values = reader.logged("loss")
    assert steps.tolist() == [0, 10, 20, 30, 40]
    np.testing.assert_allclose(values, [1 / (1 + step) for step in steps])
    assert reader.scalar_names == ("loss",)


def test_reading_needs_neither_torch_nor_pyarrow(run):
    code = (
        "import sys; from pathlib import Path; from llmscope.runs.reader import RunReader\n"
        "run = RunReader(Path(sys.argv[1])); run.figures(run.steps[-1])\n"
        "assert not {'torch', 'pyarrow', 'pandas', 'textual'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, run], check=True, cwd=ROOT)


def test_a_run_that_grows_is_followed(run):
    reader = RunReader(run)
    assert not reader.poll()
    writer = RunWriter(run, info())
    writer.add(figures(50), line(50), began=perf_counter())
    assert reader.poll()
    assert reader.steps[-1].step == 50
    writer.log(55, {"loss": 0.5, "lr": float("nan")}, time=1055.0)
    assert reader.poll()
    assert reader.logs[-1] == (55, {"loss": 0.5, "lr": None})
    assert not reader.poll()


def test_half_a_line_is_not_read_until_it_is_whole(run):
    index = run / form.INDEX
    whole = index.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    index.write_bytes(whole[: -len(last) // 2])
    reader = RunReader(run)
    assert [one.step for one in reader.steps] == [0, 10, 20, 30]
    assert reader.flaws == {}
    with index.open("ab") as file:
        file.write(whole[-len(last) // 2 :])
    assert reader.poll()
    assert reader.steps[-1].step == 40


def test_writing_goes_on_after_half_a_line(run):
    index = run / form.INDEX
    index.write_bytes(index.read_bytes()[:-20])
    writer = RunWriter(run, info())
    assert writer.last == 30
    writer.add(figures(40), line(40), began=perf_counter())
    reader = RunReader(run)
    assert [one.step for one in reader.steps] == [0, 10, 20, 30, 40]
    assert list(reader.flaws.values()) == ["a line of steps.jsonl is left out: it is damaged"]
    np.testing.assert_array_equal(
        reader.figures(reader.steps[-1])["0/tokens"].values, figures(40)["0/tokens"].values
    )


def test_a_resumed_training_takes_the_place_of_the_steps_that_it_redoes(run):
    writer = RunWriter(run, info())
    writer.add(figures(21), line(21, scalars={"loss": 9.0}), began=perf_counter())
    assert steps_of(run) == [0, 10, 20, 21]
    assert RunReader(run).logged("loss")[0].tolist() == [0, 10, 20, 21]


def test_a_step_that_is_recorded_again_counts_once(run):
    writer = RunWriter(run, info())
    writer.add(figures(99), line(40), began=perf_counter())
    reader = RunReader(run)
    assert [one.step for one in reader.steps] == [0, 10, 20, 30, 40]
    found = reader.figures(reader.steps[-1])["0/tokens"]
    np.testing.assert_array_equal(found.values, figures(99)["0/tokens"].values)


def test_checkpoints_come_in_any_order(tmp_path):
    run = written(tmp_path / "run", steps=(30, 10, 20, 10), source="checkpoints")
    assert steps_of(run) == [10, 20, 30]


def test_a_run_with_other_prompts_is_not_continued(run):
    with pytest.raises(ScopeError, match="holds a run of different prompts"):
        RunWriter(run, info(prompts=1))
    with pytest.raises(ScopeError, match="something else"):
        RunWriter(run / form.SHARDS, info())


def test_a_run_is_replaced_if_asked_for(run):
    writer = RunWriter(run, info(prompts=1), overwrite=True)
    assert steps_of(run) == [0, 10, 20, 30, 40]  # until there is something new
    writer.add(figures(5, prompts=1), line(5), began=perf_counter())
    reader = RunReader(run)
    assert [one.step for one in reader.steps] == [5]
    assert len(reader.info.prompts) == 1
    assert len(list((run / form.SHARDS).iterdir())) == 1


def test_a_run_that_is_replaced_while_it_is_read_is_not_mixed_with_the_new_one(run):
    reader = RunReader(run)
    writer = RunWriter(run, info())
    writer.clear()
    writer.add(figures(7), line(7), began=perf_counter())
    assert not reader.poll()
    assert [one.step for one in reader.steps] == [0, 10, 20, 30, 40]
    assert reader.flaws["replaced"].endswith("open it again")


def test_checkpoints_do_not_go_into_a_training(run):
    with pytest.raises(ScopeError, match="different prompts"):
        RunWriter(run, info(source="checkpoints"))


def test_a_late_log_of_an_earlier_step_drops_nothing(run):
    writer = RunWriter(run, info())
    writer.log(45, {"loss": 2.0}, time=1.0)
    writer.log(25, {"eval": 3.0}, time=1.0)
    reader = RunReader(run)
    assert reader.logs[-1] == (45, {"loss": 2.0})
    assert (25, {"eval": 3.0}) in reader.logs
    writer.add(figures(30), line(30), began=perf_counter())  # resumed there
    steps, _ = RunReader(run).logged("loss")
    assert steps.tolist() == [0, 10, 20]


def test_what_a_killed_first_step_left_is_taken_over(tmp_path, run):
    (run / form.INFO).unlink()
    writer = RunWriter(run, info())
    writer.add(figures(0), line(0), began=perf_counter())


def test_the_last_step_of_a_stage_and_the_first_of_the_next_stay_apart(tmp_path):
    writer = RunWriter(tmp_path / "run", info())
    for step, stage, start in ((0, "sft", 0), (8, "sft", 0), (8, "dpo", 8), (9, "dpo", 8)):
        writer.add(figures(step), line(step, stage=stage, start=start), began=perf_counter())
    assert [(one.step, one.stage) for one in RunReader(tmp_path / "run").steps] == [
        *((0, "sft"), (8, "sft"), (8, "dpo"), (9, "dpo")),
    ]


def test_a_pipe_or_a_device_does_not_hang(run):
    for name in (form.INDEX, form.INFO):
        path = run / name
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        if name == form.INDEX:
            assert RunReader(run).steps == []
        else:
            with pytest.raises(ScopeError, match="is no run"):
                RunReader(run)
        path.unlink()
        path.symlink_to("/dev/zero")
        if name == form.INDEX:
            assert RunReader(run).steps == []
        else:
            with pytest.raises(ScopeError, match="is no run"):
                RunReader(run)
        path.unlink()
        path.write_bytes(kept)


def test_a_step_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("llmscope.runs.shard.LARGEST", 1000)
    writer = RunWriter(tmp_path / "run", info())
    with pytest.raises(ScopeError, match="take 0 MB"):
        writer.add(figures(0), line(0), began=perf_counter())
    assert not (tmp_path / "run").exists()


BAD = {
    "no folder": (lambda run: run.rename(run.with_name("gone")), "there is no such folder"),
    "an empty folder": (lambda run: (run / form.INFO).unlink(), "holds no run.json"),
    "something else": (
        lambda run: (run / form.INFO).write_text('{"schema": "other"}'),
        "is no run: its run.json is something else",
    ),
    "a list": (lambda run: (run / form.INFO).write_text("[1]"), "something else"),
    "cut off": (lambda run: cut(run / form.INFO), "is a damaged run: run.json"),
    "a later schema": (
        lambda run: changed(run, version=form.VERSION + 1, llmscope="9.9"),
        r"was written by a later llmscope \(9\.9\): schema 2, and this one reads up to 1",
    ),
    "an unknown schema": (lambda run: changed(run, version="x"), "schema 'x' is unknown"),
    "no prompts": (lambda run: changed(run, prompts=None), "damaged run: run.json"),
    "an empty list of prompts": (lambda run: changed(run, prompts=[]), "damaged run: run.json"),
    "a name that no file can have": (
        lambda run: changed(run, figures=[{"key": "a", "lens": "logit-lens" * 30}]),
        "damaged run: run.json",
    ),
    "wrong types": (lambda run: changed(run, figures=[{"key": 1}]), "damaged run: run.json"),
    "a prompt that is not there": (
        lambda run: changed(run, figures=[{"key": "a", "lens": "tokens", "prompt": 1 << 32}]),
        "damaged run: run.json: a figure is of prompt 4294967296, and it has",
    ),
    "the first step is missing": (
        lambda run: (run / form.BASE).unlink(),
        "is a damaged run: base.safetensors: it is missing",
    ),
    "the first step is damaged": (lambda run: cut(run / form.BASE), "base.safetensors"),
    "a link to itself": (lambda run: looped(run / form.INFO), "is no run"),
}


def cut(path):
    path.write_bytes(path.read_bytes()[:-40] if path.suffix == ".json" else b"\x08")


def looped(path):
    path.unlink()
    path.symlink_to(path)


def changed(run, **entries):
    record = json.loads((run / form.INFO).read_text())
    (run / form.INFO).write_text(json.dumps(record | entries))


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_run_is_one_line(run, name):
    damage, said = BAD[name]
    damage(run)
    with pytest.raises(ScopeError, match=said) as caught:
        RunReader(run)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_missing_and_a_damaged_shard_leave_the_others(run):
    first, second, *_ = sorted((run / form.SHARDS).iterdir())[1:]
    first.unlink()
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    second.write_bytes(bytes(data))
    reader = RunReader(run)
    for step, reason in ((10, "it is missing"), (20, "its checksum differs")):
        found = reader.figures(next(one for one in reader.steps if one.step == step))
        assert all(one.verdict.status == "refused" for one in found.values())
        assert reason in found["0/tokens"].verdict.reason
    assert len(reader.flaws) == 2
    assert all("\n" not in said and "is left out" in said for said in reader.flaws.values())
    whole = reader.figures(reader.steps[-1])
    assert all(one.verdict.status == "verified" for one in whole.values())


def test_a_cut_shard_says_how_much_is_missing(run):
    path = max((run / form.SHARDS).iterdir())
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    reader = RunReader(run)
    reason = reader.figures(reader.steps[-1])["0/tokens"].verdict.reason
    assert f"{size - 1} bytes in place of {size}" in reason


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"kind": "other"}',
        b'{"kind": "step", "step": "x"}',
        b'{"kind": "step", "step": 99999999999999999999, "time": 1}',
        b'{"kind": "step", "step": 1, "time": 1e300}',
        b'{"kind": "step", "step": 1, "time": 1, "size": -1}',
        b'{"kind": "step", "step": 1, "time": 1, "shard": "../../etc/passwd"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_hostile_line_is_left_out(run, line):
    with (run / form.INDEX).open("ab") as file:
        file.write(line + b"\n")
    reader = RunReader(run)
    assert len(reader.steps) == 5
    assert len(reader.flaws) == 1


def test_an_older_schema_is_migrated(run, monkeypatch):
    changed(run, version=0, old="x", source=None)

    def to_one(record):
        assert record.pop("old") == "x"
        return record | {"version": 1, "source": "training"}

    monkeypatch.setitem(form.MIGRATIONS, 0, to_one)
    assert RunReader(run).info.source == "training"


def test_files_may_be_read_by_whoever_may_read_new_files(run):
    mask = os.umask(0o022)
    os.umask(mask)
    for path in [run / form.INFO, run / form.BASE, *(run / form.SHARDS).iterdir()]:
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


KILLED = """
import sys
from pathlib import Path
from time import perf_counter
from llmscope.runs.writer import RunWriter
from tests.runs.making import figures, info, line

writer = RunWriter(Path(sys.argv[1]), info())
step = 0 if writer.last is None else writer.last + 1
while True:
    print(step, flush=True)  # it is about to be written
    writer.add(figures(step), line(step), began=perf_counter())
    step += 1
"""


@pytest.mark.slow
def test_killed_at_twenty_moments_it_holds_all_steps_but_the_last(tmp_path):
    chance = random.Random(5)
    folder = tmp_path / "run"
    for attempt in range(21):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, folder],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(1 if attempt == 0 else 2):  # at first before a step is whole, then after
            process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        begun = [int(word) for word in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        if not (folder / form.INFO).exists():
            continue
        reader = RunReader(folder)
        held = [one.step for one in reader.steps]
        last = max(begun, default=0)
        assert held == list(range(len(held)))
        assert len(held) in (last, last + 1) or not begun
        for one in reader.steps:
            found = reader.figures(one)
            assert all(figure.verdict.status == "verified" for figure in found.values())
            np.testing.assert_array_equal(
                found["1/tokens"].values, figures(one.step)["1/tokens"].values
            )
    assert len(RunReader(folder).steps) >= 20


def test_a_run_whose_files_are_being_written_is_awaited(tmp_path, monkeypatch):
    from llmscope.runs import reader

    run, lines = written(tmp_path / "run"), []
    info = (run / form.INFO).read_bytes()
    (run / form.INFO).unlink()
    monkeypatch.setattr(reader.time, "sleep", lambda _: (run / form.INFO).write_bytes(info))
    reader.wait_for_run(run, lines.append)
    assert len(lines) == 1
    assert "waiting for a run to begin in it" in lines[0]
    assert RunReader(run).steps
    reader.wait_for_run(run, lines.append)
    assert len(lines) == 1
