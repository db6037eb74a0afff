"""Folders on this machine and on other file systems."""

import uuid

import pytest

from llmscope.errors import ScopeError
from llmscope.support.storage import LocalStorage, RemoteStorage, is_url, storage
from tests.cli.running import failure, run
from tests.jobs.snapshots.test_batch import LENSES, PROMPTS, files, written


@pytest.mark.parametrize("where", ["local", "memory"])
def test_what_is_written_is_read(tmp_path, where):
    folder = storage(str(tmp_path / "o") if where == "local" else f"memory://{uuid.uuid4()}")
    assert isinstance(folder, LocalStorage if where == "local" else RemoteStorage)
    assert folder.names() == []
    folder.write({"a/b.txt": b"abc", "c.txt": b""})
    assert folder.names() == ["a", "c.txt"]
    assert folder.names("a") == ["b.txt"]
    assert folder.read("a/b.txt", "shard") == b"abc"
    assert [folder.size(name) for name in ("a/b.txt", "c.txt", "a", "d")] == [3, 0, None, None]
    assert folder.unchanged(
        "a/b.txt", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert not folder.unchanged("a/b.txt", 2, "")
    folder.remove("a/b.txt")
    folder.remove("a/b.txt")
    assert folder.size("a/b.txt") is None
    with pytest.raises(FileNotFoundError):
        folder.read("a/b.txt", "shard")


def test_only_a_url_is_a_url(tmp_path):
    assert is_url("s3://a")
    assert is_url("simplecache::s3://a/b")
    assert not is_url("C:/a")
    assert not is_url("a/b")
    assert not is_url("s3:")
    assert isinstance(storage(f"file://{tmp_path}"), LocalStorage)


@pytest.mark.parametrize(
    ("url", "package"), [("s3://b/c", "s3fs"), ("gs://b/c", "gcsfs"), ("az://b/c", "adlfs")]
)
def test_a_package_that_lacks_is_named(url, package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(ScopeError) as caught:
            storage(url)
        assert package in caught.value.hint
        prompts = written(tmp_path / "p.jsonl")
        told = failure("snapshot", "builtin:sort", "--prompts", prompts, *LENSES, "--out", url)
        assert f"pip install {package}" in told
        assert [one.name for one in tmp_path.iterdir()] == ["p.jsonl"]
    else:
        pytest.skip(f"{package} is installed")


def test_an_unknown_file_system_is_refused():
    with pytest.raises(ScopeError, match="Protocol not known: nosuch"):
        storage("nosuch://a")


def test_a_batch_on_another_file_system_is_the_same(tmp_path):
    import fsspec

    prompts, url = written(tmp_path / "p.jsonl"), f"memory://{uuid.uuid4()}/o"
    ask = ("snapshot", "builtin:sort", "--prompts", prompts, *LENSES, "--shard-size", "3")
    for out in (tmp_path / "o", url):
        done = run(*ask, "--out", out)
        assert done.exit_code == 0, done.stderr
    memory = fsspec.filesystem("memory")
    root = memory._strip_protocol(url)
    found = {path.removeprefix(f"{root}/"): memory.cat_file(path) for path in memory.find(root)}
    manifest = found.pop("manifest.json")
    assert b'"complete"' in manifest
    assert found == files(tmp_path / "o")
    memory.rm_file(f"{root}/prompts/shard-00001.parquet")
    again = run(*ask, "--out", url)
    assert f"{len(PROMPTS) - 3} were there already" in again.stderr
    assert memory.cat_file(f"{root}/prompts/shard-00001.parquet")
