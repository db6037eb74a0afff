import os
import stat
from pathlib import Path

import pytest

from llmscope.errors import ScopeError
from llmscope.export import write, write_all


def test_a_file_is_written(tmp_path):
    path = tmp_path / "a.txt"
    assert write(path, "ä\n") == path
    assert path.read_bytes() == "ä\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_new_file_is_as_open_as_others(tmp_path):
    (tmp_path / "plain").write_text("")
    write(tmp_path / "a", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "a")]
    assert modes[0] == modes[1]


def test_what_exists_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o600)
    with pytest.raises(ScopeError, match="exists") as caught:
        write(path, "new")
    assert caught.value.hint == "force=True to replace it"
    assert path.read_text() == "old"
    write(path, "new", force=True)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["missing/a.txt", "file/a.txt"])
def test_where_nothing_can_be_written(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScopeError, match="cannot write"):
        write(tmp_path / name, "x")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ScopeError, match="is a folder"):
        write(tmp_path, "x", force=True)


def test_a_name_that_acts_is_shown_harmlessly(tmp_path):
    with pytest.raises(ScopeError) as caught:
        write(tmp_path / "\x1b[2J\n" / "a", "x")
    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ScopeError, match="No space left"):
        write(path, "new", force=True)
    assert os.listdir(tmp_path) == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("target", ["real.txt", "nowhere.txt"])
def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path, target):
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    with pytest.raises(ScopeError, match="exists"):
        write(link, "new")
    write(link, "new", force=True)
    assert not link.is_symlink()
    assert link.read_text() == "new"
    assert (tmp_path / "real.txt").read_text() == "old"
    assert not (tmp_path / "nowhere.txt").exists()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no open files with names here")
def test_a_name_of_an_open_file_is_written_to(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        write(Path(f"/dev/fd/{file.fileno()}"), "new", force=True)
    assert (tmp_path / "a").read_text() == "new"


def test_what_was_written_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    steps = []
    replace, sync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *names: (steps.append("name"), replace(*names)))

    def note(handle):
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "content")
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert steps == ["content", "content", "name", "name", "folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, "through")
        assert os.read(reader, 20) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
