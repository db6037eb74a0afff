"""A run that was stopped goes on, and ends with the bytes of one that was not."""

import subprocess
import sys
import time

import pytest

from llmscope.corpus.progress import JobProgress
from llmscope.errors import ScopeError
from llmscope.jobs import state
from llmscope.jobs.examples import collect as module
from llmscope.jobs.examples.collect import Collection, collect
from llmscope.jobs.examples.collector import Sizes
from llmscope.learned.examples.folder import INDEX, STATE
from llmscope.learned.examples.request import FeatureRequest
from tests.jobs.examples.folders import files_of
from tests.learned.texts import TEXTS

LINES = list(enumerate(TEXTS[:30], 1))
HOW = Collection(sizes=Sizes(top=4, bottom=0, random=3), length=24, name="texts.txt")


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    monkeypatch.setattr(state, "SAVED_EVERY", 0.0)
    monkeypatch.setattr(state, "SAVING_SHARE", 0.0)


@pytest.fixture
def asked(sources):
    every = [FeatureRequest("", None)]
    return lambda: sources(features=every, neurons={1: (3, 8)}, heads={2: (0,)})


def stopped(lines, after):
    yield from lines[:after]
    raise KeyboardInterrupt


@pytest.mark.few(1)
@pytest.mark.parametrize("after", [3, 16])
def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(town, asked, tmp_path, after):
    collect(town, LINES, asked(), HOW, tmp_path / "whole")
    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        collect(town, stopped(LINES, after), asked(), HOW, folder)
    assert (folder / STATE).exists() == (after > 7)
    progress = JobProgress()
    collect(town, LINES, asked(), HOW, folder, progress)
    assert progress.prompts == 30
    assert progress.kept >= after // 7 * 7
    assert files_of(folder) == files_of(tmp_path / "whole")
    assert STATE not in files_of(folder)


def test_a_complete_folder_is_not_made_again(town, asked, tmp_path, monkeypatch):
    index = collect(town, LINES, asked(), HOW, tmp_path)
    monkeypatch.setattr(module, "_Run", lambda *_: pytest.fail("it ran again"))
    assert collect(town, LINES, asked(), HOW, tmp_path) == index
    with pytest.raises(
        ScopeError, match=r"was made with other options \(length: \d+ there, 9 here\)"
    ):
        collect(town, LINES, asked(), Collection(HOW.sizes, length=9, name=HOW.name), tmp_path)


def test_other_prompts_or_options_are_told(town, asked, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        collect(town, stopped(LINES, 16), asked(), HOW, tmp_path)
    other = [(line, text + " !") for line, text in LINES]
    with pytest.raises(ScopeError, match="are not those that the checkpoint is of"):
        collect(town, other, asked(), HOW, tmp_path)
    with pytest.raises(ScopeError, match="fewer prompts than the checkpoint is of"):
        collect(town, LINES[:3], asked(), HOW, tmp_path)
    with pytest.raises(
        ScopeError,
        match=r"was begun with other options \(units: .* there, .* here; examples.*: .* there, ",
    ):
        collect(town, LINES, asked()[:1], HOW, tmp_path)


def test_a_folder_with_other_files_is_left_alone(town, asked, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ScopeError, match="holds other files"):
        collect(town, LINES, asked(), HOW, tmp_path)
    assert list(files_of(tmp_path)) == ["notes.txt"]


def test_only_examples_are_removed(town, asked, tmp_path):
    collect(town, LINES[:3], asked(), HOW, tmp_path)
    (tmp_path / "notes.jsonl").write_text("mine")
    module.remove_examples(tmp_path)
    assert list(files_of(tmp_path)) == ["notes.jsonl"]


def test_what_a_killed_run_left_is_removed(town, asked, tmp_path):
    left = [f".{STATE}.abc", ".2.resid_post-000000.jsonl.abc", f".{INDEX}.abc"]
    for name in (*left, ".mine"):
        (tmp_path / name).write_text("half")
    collect(town, LINES[:3], asked(), HOW, tmp_path)
    assert not {*left} & {*files_of(tmp_path)}
    assert (tmp_path / ".mine").exists()


def test_a_broken_checkpoint_is_told(town, asked, tmp_path):
    (tmp_path / STATE).write_bytes(b"no safetensors")
    with pytest.raises(ScopeError, match=r"the checkpoint .* cannot be read"):
        collect(town, LINES, asked(), HOW, tmp_path)


@pytest.mark.slow
@pytest.mark.endurance
def test_a_killed_command_goes_on(tmp_path):
    """`kill -9` in the middle; the same command again gives what one run gives."""
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS * 8))
    words = [
        *(sys.executable, "-c"),
        "import sys, llmscope.jobs.state as m; m.SAVED_EVERY = m.SAVING_SHARE = 0.0;"
        "from llmscope.cli.app import app; app(sys.argv[1:])",
        *("examples", "builtin:town", "--prompts", str(tmp_path / "texts.txt")),
        *("--neuron", "1.5", "--head", "3.1", "--neuron", "1.6", "--out"),
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*words, str(whole)], check=True, capture_output=True)
    saved, kills = killed / STATE, 0
    for _ in range(3):
        program = subprocess.Popen([*words, str(killed)], stdout=subprocess.DEVNULL)
        before = saved.read_bytes() if saved.exists() else b""
        while program.poll() is None:
            if saved.exists() and saved.read_bytes() != before:
                program.kill()
                kills += program.wait() < 0
            time.sleep(0.005)
    assert kills
    assert not (killed / INDEX).exists()
    subprocess.run([*words, str(killed)], check=True, capture_output=True)
    assert {n: b for n, b in files_of(killed).items() if n[0] != "."} == files_of(whole)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks = []
    for count in (200, 2000):
        path = tmp_path / f"{count}.txt"
        path.write_text("".join(f"{TEXTS[at % 60]} {at}\n" for at in range(count)))
        words = ["examples", "--prompts", str(path), "--out", str(tmp_path / f"out{count}")]
        code = (
            "import resource, sys; from llmscope.cli.app import app;"
            "app(sys.argv[1:], standalone_mode=False);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        given = [sys.executable, "-c", code, *words, "--neuron", "1.5", "--head", "3.1"]
        done = subprocess.run(given, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)
    assert peaks[1] < peaks[0] + 40, peaks
