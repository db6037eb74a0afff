"""`llmscope cache`: what it finds is what is there, and what it removes is ours and not in use."""

import json
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from llmscope.cache import entries as entries_module
from llmscope.cache.entries import KEPT, KINDS, PRUNE_LOCK, entries
from llmscope.cache.hub import folder_bytes, hub_folder
from llmscope.cache.open_files import open_files
from llmscope.cache.prune import remove
from llmscope.learned.lenses.measurements import file_of
from llmscope.models.files.cache import BUILDING, building, cache_folder, converted_folder
from llmscope.models.files.digest import file_digest
from llmscope.runs.training.checkpoints import cached_run
from llmscope.tui.session.state_folder import LOCK
from tests.cli.running import failure, fresh, run

DAY = 86_400
DEAD = 2**22 + 1
"""The id of a process that no Linux gives out."""


def aged(path, days):
    """Make all of a file or folder as old as said, and return it."""
    at = time.time() - days * DAY
    for one in (*path.rglob("*"), path):
        os.utime(one, (at, at), follow_symlinks=False)
    return path


class Kept:
    """A cache and a state folder, filled as llmscope fills them."""

    def __init__(self, cache, state):
        self.cache, self.state = cache, state

    def put(self, path, size=10, days=3, root=None):
        file = (root or self.cache) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
        aged(file, days)
        for folder in file.parents:
            if folder == (root or self.cache):
                break
            aged_at = time.time() - days * DAY
            os.utime(folder, (aged_at, aged_at))
        return file

    def model(self, name="llm-x", version="1.0", size=1000, days=3):
        return self.put(f"pypi/{name}/{version}/model.safetensors", size, days).parent

    def conversion(self, digest="a" * 64, size=500, days=3):
        file = converted_folder() / digest / "model.safetensors"
        return self.put(file.relative_to(self.cache), size, days).parent

    def of_a_file(self, path, **more):
        """A conversion of a file, with its digest, as opening the file leaves them."""
        digest = file_digest(path)
        return self.conversion(digest, **more)

    def listed(self):
        result = run("cache", "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["entries"]

    def names(self, *kinds):
        return {one["name"] for one in self.listed() if one["kind"] in kinds}

    def prune(self, *words):
        result = run("cache", "prune", "--json", *words)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
def kept(empty_cache, tmp_path, monkeypatch):
    state = tmp_path / "state"
    monkeypatch.setenv("LLMSCOPE_STATE", str(state))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return Kept(empty_cache, state)


@pytest.fixture
def full(kept, tmp_path):
    """One of each kind that prune takes, 3 days old, and what it never takes."""
    kept.model()
    kept.conversion()
    run_file = kept.put(f"runs/{'b' * 24}/run.json")
    run_file.write_text(json.dumps({"model": {"spec": "org/tuned"}}))
    aged(run_file.parent, 3)
    kept.put(f"lenses/{'c' * 64}.json")
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"GGUF")
    file_digest(gguf)
    kept.put("matplotlib/fontlist-v390.json")
    kept.put(f"{BUILDING}{DEAD}-abc/half.bin")
    kept.put("state.json", root=kept.state)
    kept.put("history.jsonl.bad", root=kept.state)
    kept.put("notes.txt")
    return kept


def everything(root):
    """The files below a folder, without the lock of a prune."""
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return files - {PRUNE_LOCK}


def test_nothing_is_listed_and_nothing_is_made_where_there_is_nothing(kept):
    assert kept.listed() == []
    assert kept.prune("--yes", "--kind", "all")["removed"] == []
    assert not kept.cache.exists()
    assert not kept.state.exists()


def test_every_kind_is_found_with_its_size(full):
    found = full.listed()
    assert {one["kind"] for one in found} == set(KINDS)
    assert sum(one["bytes"] for one in found) == sum(
        path.stat().st_size
        for root in (full.cache, full.state)
        for path in root.rglob("*")
        if path.is_file()
    )
    by_kind = {one["kind"]: one for one in found}
    model = by_kind["models"]
    assert (model["name"], model["bytes"], model["files"]) == ("pypi:llm-x==1.0", 1000, 1)
    assert model["paths"] == [str(full.cache / "pypi" / "llm-x" / "1.0")]
    assert time.time() - model["used"] == pytest.approx(3 * DAY, abs=60)
    assert by_kind["runs"]["name"] == "org/tuned"
    assert by_kind["leftovers"]["useless"] == "its process ended without it"
    assert by_kind["other"]["name"] == "notes.txt"


def test_what_llmscope_itself_writes_is_known(kept, tmp_path):
    """The names that it chooses are those that are looked for."""
    with building(cache_folder() / "pypi" / "llm-y" / "2.0") as folder:
        (folder / "config.json").write_text("{}")
        (half,) = [one for one in kept.listed() if one["kind"] == "leftovers"]
        assert half["in_use"] == f"process {os.getpid()} works on it"
    kept.put(file_of(Lens(), Model()).relative_to(kept.cache))
    recorded = cached_run([], ["x"], ["tokens"], {}) / "run.json"
    kept.put(recorded.relative_to(kept.cache)).write_text("{}")
    file = tmp_path / "weights.bin"
    file.write_bytes(b"weights")
    file_digest(file)
    assert kept.names("other") == set()
    assert kept.names("models", "lenses", "digests", "runs") == {
        *("pypi:llm-y==2.0", "measurements", "digests", recorded.parent.name)
    }


class Lens:
    digest = "abc"


class Model:
    spec, revision, adapter, dtype, folders = "x", None, None, "float32", ()


def test_prune_tells_first_and_removes_with_yes(full):
    before = everything(full.cache), everything(full.state)
    said = full.prune("--kind", "all")
    assert said["dry"] is True
    assert (everything(full.cache), everything(full.state)) == before
    done = full.prune("--kind", "all", "--yes")
    assert done["dry"] is False
    assert done["removed"] == said["removed"]
    assert {one["kind"] for one in done["removed"]} == set(KINDS) - KEPT
    assert everything(full.cache) == {"notes.txt"}
    assert everything(full.state) == {"state.json"}
    assert not (full.cache / "pypi" / "llm-x").exists(), "the package without a version goes too"


def test_without_a_condition_only_what_is_useless_goes(full):
    done = full.prune("--yes")
    assert [one["kind"] for one in done["removed"]] == ["leftovers"]
    assert full.names("models", "conversions", "runs") == {
        *("pypi:llm-x==1.0", "a" * 64, "org/tuned")
    }


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (("--kind", "models"), {"pypi:old==1.0", "pypi:small==1.0", "pypi:llm-x==1.0"}),
        (("--older-than", "10d"), {"pypi:old==1.0"}),
        (("--older-than", "1w"), {"pypi:old==1.0"}),
        (("--older-than", "2"), {"pypi:old==1.0", "pypi:small==1.0", "pypi:llm-x==1.0"}),
        (("--older-than", "400h"), {"pypi:old==1.0"}),
        (("--larger-than", "1kB"), {"pypi:old==1.0", "pypi:llm-x==1.0"}),
        (("--larger-than", "0.0000015GB"), {"pypi:old==1.0"}),
        (("--larger-than", "1kB", "--older-than", "10d"), {"pypi:old==1.0"}),
        (("--kind", "runs", "--older-than", "10d"), set()),
    ],
    ids=lambda one: " ".join(sorted(one)),
)
def test_conditions_are_met_all_together(kept, words, gone):
    kept.model()
    kept.model("old", size=2000, days=20)
    kept.model("small", size=10)
    assert {one["name"] for one in kept.prune(*words)["removed"]} == gone
    assert {one["name"] for one in kept.prune(*words, "--yes")["removed"]} == gone
    assert kept.names("models") == {"pypi:old==1.0", "pypi:small==1.0", "pypi:llm-x==1.0"} - gone


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--kind", "state"), "--kind"),
        (("--kind", "other"), "--kind"),
        (("--kind", "\x1b[31m"), "--kind"),
        (("--older-than", "soon"), "--older-than"),
        (("--older-than", "-3"), "--older-than"),
        (("--larger-than", "big"), "--larger-than"),
        (("--larger-than", "1e9"), "--larger-than"),
    ],
    ids=str,
)
def test_a_condition_that_cannot_be_read_is_wrong_use(full, words, option):
    before = everything(full.cache), everything(full.state)
    told = failure("cache", "prune", "--yes", *words, code=2)
    assert option in told
    assert "\x1b" not in told
    assert (everything(full.cache), everything(full.state)) == before


class TestWhatIsUseless:
    def test_a_conversion_whose_file_is_gone_or_was_changed(self, kept, tmp_path):
        files = [tmp_path / name for name in ("same.gguf", "gone.gguf", "changed.gguf")]
        for file in files:
            file.write_bytes(b"GGUF" + file.name.encode())
            kept.of_a_file(file)
        kept.conversion("d" * 64)  # its digest was pruned, so nothing is known of its file
        files[1].unlink()
        files[2].write_bytes(b"another")
        found = {one["name"]: one["useless"] for one in kept.listed()}
        assert found[str(files[0])] is None
        assert found["d" * 64] is None
        assert found[str(files[1])] == found[str(files[2])] is not None
        gone = {one["name"] for one in kept.prune("--yes")["removed"]}
        assert gone == {str(files[1]), str(files[2]), "old digests"}
        assert kept.names("conversions", "digests") == {str(files[0]), "d" * 64, "digests"}

    def test_one_of_two_copies_of_a_file_is_enough(self, kept, tmp_path):
        files = [tmp_path / name for name in ("a.gguf", "b.gguf")]
        for file in files:
            file.write_bytes(b"GGUF")
            kept.of_a_file(file)
        for gone, left in (files, files[::-1]):
            gone.unlink()
            (one,) = [one for one in kept.listed() if one["kind"] == "conversions"]
            assert (one["name"], one["useless"]) == (str(left), None)
            gone.write_bytes(b"GGUF")
            file_digest(gone)

    def test_a_conversion_of_an_older_llmscope(self, kept):
        kept.put(f"gguf-1/{'e' * 64}/model.safetensors")
        (one,) = kept.listed()
        assert (one["kind"], one["useless"]) == ("conversions", "an older llmscope made it")

    @pytest.mark.parametrize("info", [None, b"{", b"\xff", b"[" * 100_000])
    def test_a_run_that_cannot_be_read(self, kept, info):
        folder = kept.put(f"runs/{'b' * 24}/steps.jsonl").parent
        if info is not None:
            (folder / "run.json").write_bytes(info)
        aged(folder, 3)
        (one,) = kept.prune()["removed"]
        assert (one["name"], one["useless"]) == ("b" * 24, "it holds no run that can be read")

    @pytest.mark.parametrize("info", [{}, {"model": []}, {"model": {"spec": None}}, []])
    def test_a_run_that_says_little_may_be_of_use(self, kept, info):
        folder = kept.put(f"runs/{'b' * 24}/run.json").parent
        (folder / "run.json").write_text(json.dumps(info))
        aged(folder, 3)
        assert kept.prune()["removed"] == []
        assert kept.names("runs") == {"b" * 24}

    @pytest.mark.parametrize(
        "record", [b"", b"{", b"[1, 2]", b"[null, 1, 2, 3]", b'["\\u0000", 1, 2, "3"]', b"3"]
    )
    def test_a_digest_that_is_damaged(self, kept, record):
        memo = kept.put(f"digests/{'f' * 64}.json")
        memo.write_bytes(record)
        (one,) = kept.prune("--yes")["removed"]
        assert one["name"] == "old digests"
        assert not memo.exists()

    def test_what_a_killed_process_left(self, kept, tmp_path):
        for place in ("", "pypi/llm-x/", f"{converted_folder().name}/", "runs/"):
            kept.put(f"{place}{BUILDING}{DEAD}-abc/half.bin")
        kept.put(f"{BUILDING}abcdefgh/half.bin")  # as 0.1 named them
        kept.put(f"offload/{DEAD}-abc/0.dat")
        kept.put(f"digests/.{'f' * 40}.abcdefgh")
        assert len(kept.prune("--yes")["removed"]) == 7
        assert everything(kept.cache) == set()

    def test_but_not_what_a_process_still_works_on(self, kept):
        kept.put(f"{BUILDING}{os.getpid()}-abc/half.bin", days=30)
        kept.put(f"offload/{os.getpid()}-abc/0.dat", days=30)
        kept.put(f"{BUILDING}{DEAD}-abc/half.bin", days=0)  # of another machine, perhaps
        kept.put(f"{BUILDING}abcdefgh/half.bin", days=0.5)
        done = kept.prune("--yes", "--kind", "all")
        assert done["removed"] == []
        assert len(done["in_use"]) == 4
        assert len(everything(kept.cache)) == 4


class TestWhatIsNotOurs:
    def test_links_are_told_and_left_alone(self, kept, tmp_path):
        outside = tmp_path / "outside"
        weights = aged_file(outside / "1.0" / "model.safetensors")
        kept.model()
        links = {
            "pypi/linked": outside,
            "pypi/llm-x/2.0": outside / "1.0",
            f"runs/{'b' * 24}": outside,
            f"{converted_folder().name}/{'a' * 64}": outside,
            f"lenses/{'c' * 64}.json": weights,
            f"digests/{'c' * 64}.json": weights,
            f"{BUILDING}{DEAD}-x": outside,
            f"offload/{DEAD}-x": outside,
        }
        for name, target in links.items():
            (kept.cache / name).parent.mkdir(parents=True, exist_ok=True)
            (kept.cache / name).symlink_to(target)
        notes = [one["note"] for one in kept.listed() if one["kind"] == "other"]
        assert notes == ["a link, which is not followed"] * len(links)
        gone = kept.prune("--kind", "all", "--yes")["removed"]
        assert [one["name"] for one in gone] == ["pypi:llm-x==1.0"]
        assert weights.exists()
        assert all((kept.cache / name).is_symlink() for name in links)

    @pytest.mark.parametrize("name", ["pypi", "runs", "offload", "digests", "lenses", "gguf-2"])
    def test_a_folder_of_ours_that_is_a_link(self, kept, tmp_path, name):
        inside = tmp_path / "outside" / "a" / "1.0"
        weights = aged_file(inside / "model.safetensors")
        kept.cache.mkdir()
        (kept.cache / name).symlink_to(tmp_path / "outside")
        assert kept.names("other") == {name}
        assert kept.prune("--kind", "all", "--yes")["removed"] == []
        assert weights.exists()

    def test_links_inside_of_an_entry_are_not_followed(self, kept, tmp_path):
        weights = aged_file(tmp_path / "outside" / "model.safetensors", size=10_000)
        folder = kept.model()
        (folder / "link").symlink_to(tmp_path / "outside")
        (folder / "file").symlink_to(weights)
        aged_at = time.time() - 3 * DAY
        os.utime(folder, (aged_at, aged_at))
        (one,) = kept.listed()
        assert one["bytes"] == 1000
        assert "link" in one["note"]
        assert len(kept.prune("--kind", "models", "--yes")["removed"]) == 1
        assert not folder.exists()
        assert weights.exists()

    def test_names_that_llmscope_would_not_choose(self, kept):
        """The cache may lie in a folder where others work, such as the home."""
        for name in (
            *("runs/my-training/model.safetensors", "lenses/good.json", "digests/list.json"),
            *("matplotlib/style.mplstyle", "offload/plan/a.txt", "gguf-2/mine/model.gguf"),
            *("pypi/README", "pypi/some/notes/a.txt", "thesis.tex", ".cache/x", "gguf-x/y"),
        ):
            kept.put(name, days=100)
        before = everything(kept.cache)
        assert {one["kind"] for one in kept.listed()} == {"other"}
        assert kept.prune("--kind", "all", "--yes")["removed"] == []
        assert everything(kept.cache) == before

    def test_an_entry_outside_is_refused(self, full, tmp_path):
        found = entries(full.cache, full.state)
        (model,) = [one for one in found if one.kind == "models"]
        roots = (full.cache, full.state)
        for outside in (
            tmp_path / "outside",
            full.cache / ".." / "outside",
            full.cache,
            tmp_path,
        ):
            entry = entries_module.replace(model, paths=(outside,))
            (tmp_path / "outside").mkdir(exist_ok=True)
            assert remove(entry, roots) == "it is not inside of llmscope's folders"
            assert outside.exists()
        (full.cache / "through").symlink_to(tmp_path)
        entry = entries_module.replace(model, paths=(full.cache / "through" / "outside",))
        assert remove(entry, roots) == "it is not inside of llmscope's folders"
        for kind in KEPT:
            kept_kind = entries_module.replace(model, kind=kind)
            assert "never removed" in remove(kept_kind, roots)
        assert model.paths[0].exists()

    def test_state_is_kept_and_the_lock_is_no_entry(self, full):
        (full.state / LOCK).touch()
        (full.cache / PRUNE_LOCK).touch()
        assert full.names("state") == {"state.json"}
        assert full.names("other") == {"notes.txt"}


def aged_file(path, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return aged(path, 3)


class TestInUse:
    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which files are open")
    @pytest.mark.parametrize("how", ["open", "mmap"])
    def test_what_another_process_has_open_is_left_alone(self, kept, how):
        folder = kept.model()
        kept.model("free")
        code = (
            "import mmap, sys\nfile = open(sys.argv[1], 'rb')\n"
            "if sys.argv[2] == 'mmap':\n"
            "    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
            "    file.close()\n"
            "print('ready', flush=True)\nsys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "model.safetensors"), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout.readline() == b"ready\n"
            done = kept.prune("--kind", "models", "--yes")
            assert [one["name"] for one in done["removed"]] == ["pypi:free==1.0"]
            (busy,) = done["in_use"]
            assert busy["in_use"] == f"process {holder.pid} has it open"
            assert folder.exists()
            told = run("cache", "prune", "--kind", "models")
            assert "nothing to remove" in told.stderr
            assert f"left alone: pypi:llm-x==1.0: process {holder.pid}" in told.stderr
            holder.stdin.close()
        assert len(kept.prune("--kind", "models", "--yes")["removed"]) == 1
        assert not folder.exists()

    def test_open_files_are_those_below_the_folder(self, tmp_path):
        assert open_files([tmp_path]) == {}

    def test_what_was_written_a_moment_ago(self, kept):
        kept.model(days=0)
        done = kept.prune("--kind", "models", "--yes")
        assert done["removed"] == []
        assert done["in_use"][0]["in_use"] == "it was written a moment ago"

    def test_two_at_a_time_are_one_too_many(self, full):
        before = everything(full.cache)
        with FileLock(full.cache / PRUNE_LOCK):
            told = failure("cache", "prune", "--kind", "all", "--yes")
            assert "another process prunes the cache" in told
            assert full.prune("--kind", "all")["dry"] is True, "telling needs no lock"
        assert everything(full.cache) == before

    def test_a_lock_that_is_a_link_writes_nowhere_else(self, full, tmp_path):
        (full.cache / PRUNE_LOCK).symlink_to(tmp_path / "elsewhere")
        full.prune("--yes")
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_what_cannot_be_removed_is_one_line(full):
    home = full.cache / "pypi" / "llm-x"
    home.chmod(0o500)
    try:
        told = failure("cache", "prune", "--kind", "models", "--yes")
    finally:
        home.chmod(0o700)
    assert "pypi:llm-x==1.0 could not be removed: Permission denied" in told


def test_a_removal_that_fails_is_told_and_the_rest_goes(full, monkeypatch):
    from llmscope.cache import prune as module

    def refuse(path):
        if path.name == "1.0":
            raise PermissionError(13, "Permission denied")
        removed(path)

    removed = module._remove
    monkeypatch.setattr(module, "_remove", refuse)
    result = run("cache", "prune", "--kind", "all", "--yes", "--json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert [one["name"] for one in record["failed"]] == ["pypi:llm-x==1.0"]
    assert record["failed"][0]["reason"] == "Permission denied"
    assert "pypi:llm-x==1.0" not in {one["name"] for one in record["removed"]}
    assert "pypi:llm-x==1.0 could not be removed: Permission denied" in result.stderr
    assert everything(full.cache) == {"notes.txt", "pypi/llm-x/1.0/model.safetensors"}


def test_no_half_of_a_folder_is_ever_seen(full, monkeypatch):
    from llmscope.cache import prune as module

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.shutil, "rmtree", stop)
    result = run("cache", "prune", "--kind", "models", "--yes")
    assert result.exit_code == 130
    assert full.names("models") == set()
    left = [one["paths"][0] for one in full.listed() if one["kind"] == "leftovers"]
    assert sum(os.listdir(path) == ["removed"] for path in left) == 1


def test_the_table_shows_no_foreign_controls(kept):
    folder = kept.put(f"runs/{'b' * 24}/run.json").parent
    (folder / "run.json").write_text(json.dumps({"model": {"spec": "\x1b[31m[bold]evil\n\u202e"}}))
    kept.put("\x1b]0;title\x07")
    result = run("cache")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout + result.stderr
    assert "\u202e" not in result.stdout
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["kind", "name", "MB", "last", "use"]
    assert len(rows) == 2
    assert "[bold]evil" in rows[0]
    for word in ("the cache: ", "the state: ", "the hub's cache, which other programs share: "):
        assert word in result.stderr


def test_list_is_what_the_command_does_alone(full):
    assert run("cache", "list").stdout == run("cache").stdout
    assert run("cache", "list", "--json").stdout == run("cache", "--json").stdout
    assert "--json" in failure("cache", "--json", "list", code=2)


class TestTheHub:
    def test_its_size_is_told_and_it_is_left_alone(self, full, tmp_path):
        blob = tmp_path / "hub" / "models--a--b" / "blobs" / "x"
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"x" * 5000)
        link = blob.parents[1] / "snapshots" / "y" / "model.safetensors"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        record = json.loads(run("cache", "--json").stdout)
        assert record["hub"] == {"path": str(tmp_path / "hub"), "bytes": 5000}
        full.prune("--kind", "all", "--yes")
        assert blob.exists()
        assert link.is_symlink()

    def test_a_missing_one_is_empty(self, tmp_path):
        assert folder_bytes(tmp_path / "none") == 0

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"HF_HOME": "~/a"},
            {"HF_HUB_CACHE": "$HOME/b"},
            {"HUGGINGFACE_HUB_CACHE": "/c"},
            {"XDG_CACHE_HOME": "/d"},
            {"HF_HOME": "/a", "HF_HUB_CACHE": "/b", "XDG_CACHE_HOME": "/d"},
        ],
        ids=str,
    )
    def test_it_is_where_its_library_looks(self, variables, monkeypatch):
        """The library reads the same variables, once, when it is imported."""
        names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
        theirs = fresh(code=code)
        assert str(hub_folder(os.environ)) == theirs.stdout.strip()
