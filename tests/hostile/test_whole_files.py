"""Files that are read whole: one of 60 MB is refused with a line before it is read."""

import shutil
import tracemalloc
from contextlib import contextmanager

import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.runs.writer import RunWriter
from tests.cli.running import failure, run
from tests.runs.making import info, written

SIZE = 60_000_000
MEMORY = 20_000_000
"""Bytes that a refusal may take, less than a third of the file."""


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The words of a batch, and its finished folder."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "prompts.jsonl").write_text('{"prompt": "CAB"}\n')
    words = ("snapshot", "builtin:sort", "--lens", "next-token")
    words = (*words, "--prompts", folder / "prompts.jsonl")
    result = run(*words, "--out", folder / "out")
    assert result.exit_code == 0, result.stderr
    return words, folder / "out"


def fill(path):
    """Make a file valid JSON of 60 MB: an object of many small ones."""
    entry = '{"role":"user","content":"a","n":[1,2,3]},'
    path.write_text(f'{{"messages":[{entry * (SIZE // len(entry))}0]}}')
    return path


@contextmanager
def little_memory():
    """Check that what happens within takes little memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def test_the_file_of_a_run(tmp_path):
    written(tmp_path / "run")
    fill(tmp_path / "run" / "run.json")
    with little_memory():
        words = ("watch", tmp_path / "run", "--export", tmp_path / "tables")
        assert "it has 60.0 MB, more than 16.8 MB" in failure(*words)
    assert not (tmp_path / "tables").exists()
    with little_memory(), pytest.raises(ScopeError, match=r"more than 16\.8 MB"):
        RunWriter(tmp_path / "run", info())


def test_the_manifest_of_a_batch(batch, tmp_path):
    words, finished = batch
    shutil.copytree(finished, tmp_path / "out")
    fill(tmp_path / "out" / "manifest.json")
    with little_memory():
        assert "more than 16.8 MB" in failure("report", tmp_path / "out")
    assert "more than 16.8 MB" in failure(*words, "--out", tmp_path / "out")


def test_a_transcript(tmp_path):
    file = fill(tmp_path / "chats.json")
    with little_memory():
        assert "more than 33.6 MB" in failure("read", file, "builtin:town", "--list")


def test_the_manifest_of_saved_activations(tmp_path):
    scope = llmscope.load("builtin:sort")
    names = ["layers.*.resid_post"]
    scope.save_activations(["CAB"], names, tmp_path / "saved")
    fill(tmp_path / "saved" / "manifest.json")
    with little_memory(), pytest.raises(ScopeError, match=r"more than 16\.8 MB"):
        scope.save_activations(["CAB"], names, tmp_path / "saved")
