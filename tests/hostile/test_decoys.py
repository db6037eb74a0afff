"""What writes a folder leaves alone what links in it lead to, and foreign files beside its own."""

import os

import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.jobs.compare.table import begin
from llmscope.jobs.examples.collect import remove_examples
from llmscope.support.storage import LocalStorage
from tests.cli.running import failure
from tests.jobs.snapshots.test_batch import LENSES, batch, written

DECOY = b"not of this folder"
NAMES = (
    *(".shard-00000.parquet.abc", "shard-00000.parquet", "shard-00000.safetensors"),
    *("manifest.json", "model.safetensors", ".lock", "index.json", "steps.jsonl"),
)


@pytest.fixture
def decoys(tmp_path):
    """A folder that must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(DECOY)
    yield folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(
        NAMES, DECOY
    )


def test_a_linked_folder_of_a_storage_is_not_entered(tmp_path, decoys):
    storage = LocalStorage(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prompts").symlink_to(decoys)
    assert storage.names("prompts") == []
    assert storage.size("prompts/shard-00000.parquet") is None
    storage.remove("prompts/shard-00000.parquet")
    storage.remove_folder("prompts")
    storage.write({"prompts/shard-00000.parquet": b"new"})
    assert (tmp_path / "out" / "prompts" / "shard-00000.parquet").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.timeout(60)
def test_a_pipe_in_a_storage_is_neither_written_nor_removed(tmp_path):
    storage = LocalStorage(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScopeError, match="pipe is no regular file"):
        storage.write({"pipe": b"new"})
    with pytest.raises(OSError, match="no regular file"):
        storage.read("pipe", "manifest")
    storage.remove("pipe")
    assert (tmp_path / "pipe").exists()


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["prompts", "verdicts", "next-token", "manifest.json", ".lock"])
def test_a_resumed_batch(tmp_path, decoys, name):
    prompts, out = written(tmp_path / "p.jsonl"), tmp_path / "o"
    batch(prompts, out)
    target = decoys if (out / name).is_dir() else decoys / name
    if (out / name).is_dir():
        (out / name).rename(tmp_path / "aside")
    else:
        (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(target)
    if name == "manifest.json":
        words = ("--prompts", prompts, "--out", out, *LENSES)
        assert "manifest.json" in failure("snapshot", "builtin:sort", *words)
    else:
        batch(prompts, out)
        assert not (out / name).is_symlink()


def test_saved_activations(tmp_path, decoys):
    scope, out = llmscope.load("builtin:sort"), tmp_path / "o"
    out.mkdir()
    foreign = out / ".shard-of-mine"
    foreign.write_bytes(DECOY)
    scope.save_activations(["CAB"], ["*.resid_post"], out)
    assert foreign.read_bytes() == DECOY
    (out / "shard-00000.safetensors").unlink()
    (out / "shard-00000.safetensors").symlink_to(decoys / "shard-00000.safetensors")
    with pytest.raises(ScopeError, match="is a link"):
        scope.save_activations(["CAB"], ["*.resid_post"], out)


def test_emptied_examples(tmp_path, decoys):
    out = tmp_path / "o"
    out.mkdir()
    foreign = ("2026.report-000001.jsonl", "3.a b-000128.jsonl", "1.heads-12.jsonl", "notes.txt")
    for name in (*foreign, "index.json", "1.heads-000000.jsonl", "5.resid_post-000128.jsonl"):
        (out / name).write_bytes(DECOY)
    remove_examples(out)
    assert {path.name for path in out.iterdir()} == set(foreign)
    (out / "1.heads-000000.jsonl").symlink_to(decoys / "steps.jsonl")
    with pytest.raises(ScopeError, match="is a link"):
        remove_examples(out)


def test_the_table_of_a_comparison(tmp_path, decoys):
    (tmp_path / "tokens").symlink_to(decoys)
    with pytest.raises(ScopeError, match="is a link"):
        begin(tmp_path)
