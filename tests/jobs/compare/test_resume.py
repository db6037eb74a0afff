"""A comparison that was stopped goes on, and ends with the bytes of one that was not."""

import subprocess
import sys
from dataclasses import replace

import pytest

from llmscope.errors import ScopeError
from llmscope.jobs.compare import table
from tests.jobs.compare.corpora import HOW, files_of, run, write_texts
from tests.learned.texts import TEXTS


@pytest.fixture
def path(tmp_path):
    return write_texts(tmp_path / "texts.jsonl")


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(path, tmp_path, monkeypatch):
    run(path, tmp_path / "whole")
    out, made = tmp_path / "parts", []
    write = table.write

    def stopping(file, *more, **options):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(file.name)
        return write(file, *more, **options)

    monkeypatch.setattr(table, "write", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(path, out)
    monkeypatch.setattr(table, "write", write)
    assert not (out / "summary.json").exists()
    said = []
    run(path, out, progress=said.append)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert made == ["shard-00000.parquet", "shard-00001.parquet"]


@pytest.mark.slow
def test_a_complete_folder_is_not_measured_again(path, tmp_path, monkeypatch):
    summary = run(path, tmp_path / "out")
    before = files_of(tmp_path / "out")
    monkeypatch.setattr(table, "predictions", lambda *_: pytest.fail("it ran again"))
    assert run(path, tmp_path / "out") == summary
    assert files_of(tmp_path / "out") == before


@pytest.mark.slow
def test_other_texts_options_or_models_are_told(path, tmp_path):
    out = tmp_path / "out"
    run(path, out)
    with pytest.raises(ScopeError, match=r"made with other options \(length: 40 there, 30 here\)"):
        run(path, out, replace(HOW, length=30))
    with pytest.raises(
        ScopeError, match=r"made with other options \(b\S*: .+ there, .*builtin:town.* here\)"
    ):
        run(path, out, b="builtin:town")
    write_texts(path, [*TEXTS[:6], *TEXTS[20:26]])
    with pytest.raises(ScopeError, match="was made of other texts"):
        run(path, out)
    write_texts(path, TEXTS[:5])
    with pytest.raises(ScopeError, match="was made of more texts"):
        run(path, out)


def test_a_folder_with_other_files_is_left_alone(path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("notes.txt", "summary.json"):
        (out / name).write_text("mine")
        with pytest.raises(ScopeError, match="holds other files"):
            run(path, out)
        assert files_of(out) == {name: b"mine"}
        (out / name).unlink()


@pytest.mark.slow
def test_a_damaged_shard_is_told(path, tmp_path):
    run(path, tmp_path / "out")
    shard = tmp_path / "out" / "tokens" / "shard-00001.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-30])
    with pytest.raises(ScopeError, match=r"shard-00001\.parquet is damaged"):
        run(path, tmp_path / "out")
    shard.unlink()
    run(path, tmp_path / "out")
    assert shard.read_bytes() == whole


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import peft, pyarrow.parquet, torch, transformers.models.llama.modeling_llama
import llmscope.jobs.compare.run, llmscope.scope.scope
from llmscope.cli.app import app

words, (whole, killed) = sys.argv[1:-2], sys.argv[-2:]

def start(out):
    child = os.fork()
    if not child:  # with all libraries at hand
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        app([*words, out])
        os._exit(9)
    return child

begun = time.monotonic()
assert os.waitpid(start(whole), 0)[1] == 0
seconds, chance, kills = time.monotonic() - begun, random.Random(0), 0
while kills < 20:
    child, end = start(killed), time.monotonic() + chance.uniform(0, 0.9) * seconds
    ended = 0
    while not ended and time.monotonic() < end:
        ended = os.waitpid(child, os.WNOHANG)[0]
        time.sleep(0.002)
    if not ended:
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    done = (Path(killed) / "summary.json").exists()
    print(len([*Path(killed).glob("tokens/shard-*")]), done, flush=True)
    if done and kills < 20:  # begin anew
        for one in sorted(Path(killed).rglob("*"), reverse=True):
            one.unlink() if one.is_file() else one.rmdir()
assert os.waitpid(start(killed), 0)[1] == 0
"""


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_a_command_that_is_killed_twenty_times_ends_with_the_same_bytes(tmp_path):
    """`kill -9` at any moment; the same command again gives what one run gives."""
    texts = write_texts(tmp_path / "texts.jsonl", TEXTS)
    words = ["compare", "builtin:town", "builtin:town-pirate", "--prompts", str(texts)]
    words += ["--shard-size", "2", "--resamples", "200", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    given = [sys.executable, "-c", KILLER, *words, str(whole), str(killed)]
    done = subprocess.run(given, check=True, capture_output=True, text=True)
    shards = {line.split()[0] for line in done.stdout.splitlines()}
    assert len(shards) > 3, done.stdout  # it was killed in between
    assert files_of(killed) == files_of(whole)
