"""Replacing files completely or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.support.fsync import Journal, replace_file


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.json"
    for data in (b"old", b"new"):
        replace_file(path, data)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["state.json"]
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_the_earlier_file_stays_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


ARRAYS = {
    "half": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float16),
    "none": np.zeros((0, 3), np.int64),
    "one": np.array(True),
    "texts": np.array(["a", "𐍈b"]),
}


def test_a_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".finished"
    journal = Journal(path, {"job": 1})
    assert list(journal.records()) == []
    notes = [{"a": [1, None, 0.1]}, {"b": float("inf")}, "last"]
    for note in notes:
        journal.append(note, ARRAYS)
    found = list(Journal(path, {"job": 1}).records())
    assert [note for note, _ in found] == notes
    for _, arrays in found:
        assert arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)
    journal.clear()
    assert list(Journal(path, {"job": 1}).records()) == []
    journal.append("anew")
    assert [note for note, _ in Journal(path, {"job": 1}).records()] == ["anew"]
    journal.remove()
    assert not path.exists()


def test_a_journal_that_is_cut_off_anywhere_goes_on_behind_its_last_whole_record(
    tmp_path: Path,
) -> None:
    path = tmp_path / ".finished"
    journal, ends = Journal(path, {"job": 1}), []
    for number in range(3):
        journal.append(number, {"x": np.arange(number)})
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        expected = [number for number, end in enumerate(ends) if end <= length]
        again = Journal(path, {"job": 1})
        assert [note for note, _ in again.records()] == expected
        again.append("more")
        assert [note for note, _ in Journal(path, {"job": 1}).records()] == [*expected, "more"]


def test_a_journal_ends_before_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / ".finished"
    journal = Journal(path, {"job": 1})
    journal.append(1)
    end = path.stat().st_size
    journal.append(2)
    data = bytearray(path.read_bytes())
    for place in range(end, len(data)):
        damaged = bytes((*data[:place], data[place] ^ 1, *data[place + 1 :]))
        path.write_bytes(damaged)
        assert [note for note, _ in Journal(path, {"job": 1}).records()] == [1]


def test_a_journal_of_another_job_or_through_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ".finished"
    Journal(path, {"job": 1}).append(1)
    before = path.read_bytes()
    with pytest.raises(ScopeError, match=r"was begun with other options .job: 1 there, 2 here"):
        Journal(path, {"job": 2}).append(2)
    assert path.read_bytes() == before
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(ScopeError, match="is a link"):
        Journal(tmp_path / "link", {"job": 1}).append(2)
    assert path.read_bytes() == before
