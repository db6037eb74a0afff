"""What was written is read back; what is damaged or hostile is one line, and nothing of it runs."""

import io
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.errors import ScopeError
from llmscope.export import read as reading
from llmscope.export import render, save
from llmscope.export.read import read
from llmscope.export.read_npz import npz_entries
from llmscope.figure import Axis, Figure, Verdict

SUFFIXES = ("json", "npz", "safetensors")


@pytest.fixture
def many(figure):
    start = Axis("token", ("a", "b"), start=4, step=2)
    one = Figure("tokens", "One", "bars", (start,), np.float32([1, 2]), "bits", extra={"ids": [7]})
    single = Figure("none", "No axes", "table", (), np.array(3, np.float32), "x", extra={"n": 3})
    partial = replace(figure, verdict=Verdict("partial", "why"), extra={"deep": {"a": [1, None]}})
    return [partial, one, single, Figure.refused("attention", "Attention", "no")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_comes_back(many, tmp_path, suffix):
    found = read(save(many, tmp_path / f"a.{suffix}")).figures
    assert len(found) == len(many)
    for one, figure in zip(found, many, strict=True):
        for name in ("lens", "title", "kind", "axes", "unit", "verdict"):
            assert getattr(one, name) == getattr(figure, name)
        # JSON has no infinity: it becomes null, as NaN does.
        wanted = np.where(np.isinf(figure.values), np.nan, figure.values)
        told = figure.values if suffix != "json" else wanted
        assert one.values.shape == figure.values.shape
        np.testing.assert_array_equal(one.values, told)
    assert np.array_equal(found[1].extra["ids"], [7])
    assert found[2].extra["n"] == 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_figure_that_was_saved_alone(figure, tmp_path, suffix):
    (one,) = read(save(figure, tmp_path / f"a.{suffix}")).figures
    assert one.axes == figure.axes


def refused(path):
    with pytest.raises(ScopeError) as caught:
        read(path)
    assert "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_cut_off_is_told(many, tmp_path, suffix):
    path = save(many, tmp_path / f"a.{suffix}")
    whole = path.read_bytes()
    for size in (0, 1, 2, 8, 9, 20, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:size])
        assert "is no snapshot" in refused(path)


@given(st.binary(max_size=300))
def test_any_bytes_are_told(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(data)
    refused(path)


@given(st.sampled_from([b"PK\x03\x04", b"{", b"[", b"\x08\0\0\0\0\0\0\0{"]), st.binary())
def test_any_bytes_after_a_true_beginning_are_told(tmp_path_factory, head, data):
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    path.write_bytes(head + data)
    path.with_suffix(".json").write_text("{}")
    refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"figures": 3}',
        '{"figures": [3]}',
        '{"figures": [], "schema": 99}',
        '{"figures": [{"lens": "x"}]}',
        '{"figures": [NaN]}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=range(8),
)
def test_json_that_is_no_snapshot(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert "is no snapshot" in refused(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("values", [["1", 2]]),
        ("values", [[1], [2, 3]]),
        ("values", {"a": 1}),
        ("values", [[10**400] * 6] * 2),
        ("values", [1, 2]),
        ("axes", None),
        ("axes", [{"name": "layer", "labels": [1, 2]}]),
        ("axes", [{"name": "layer", "labels": "ab", "step": 0}]),
        ("kind", "pie"),
        ("lens", ["x"]),
        ("verdict", {"status": "\x1b[31m"}),
        ("extra", 3),
    ],
)
def test_a_figure_that_is_none(figure, tmp_path, key, value):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**figure.to_dict(), key: value}))
    assert "is no snapshot" in refused(path)


class Acts:
    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, figure=np.array([Acts(tmp_path / "acted")], object))
    assert "is no snapshot" in refused(path)
    assert not (tmp_path / "acted").exists()
    np.load(path, allow_pickle=True)["figure"]  # it would have acted
    assert (tmp_path / "acted").exists()


def npz(content, name="values.npy", method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def npy(array, **header):
    buffer = io.BytesIO()
    described = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue() + array.tobytes()


class TestEntries:
    def test_arrays_in_either_order(self):
        array = np.arange(6, dtype=np.int64).reshape(2, 3)
        assert np.array_equal(npz_entries(npz(npy(array)), 1000)["values"], array)
        columns = npy(array.T.copy(), fortran_order=True, shape=(2, 3))
        assert np.array_equal(npz_entries(npz(columns), 1000)["values"], array)

    @pytest.mark.parametrize("shape", [(10**15,), (3, 10**9), (-3,), (0,), (2,)])
    def test_a_header_that_promises_what_is_not_there(self, shape):
        with pytest.raises(ValueError, match="header"):
            npz_entries(npz(npy(np.zeros(3), shape=shape)), 1000)

    def test_a_bomb_is_not_unpacked(self):
        bomb = npz(b"\0" * 10_000_000)
        assert len(bomb) < 20_000
        with pytest.raises(ValueError, match="more than"):
            npz_entries(bomb, 1_000_000)

    def test_a_bomb_that_lies_of_its_size_is_not_unpacked(self):
        size, lie = (10_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
        bomb = npz(b"\0" * 10_000_000).replace(size, lie)
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            npz_entries(bomb, 1_000_000)

    def test_too_many_entries(self):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for index in range(10_001):
                archive.writestr(str(index), b"")
        with pytest.raises(ValueError, match="more than"):
            npz_entries(buffer.getvalue(), 1 << 30)

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_packed_otherwise(self, method):
        with pytest.raises(ValueError, match="packed"):
            npz_entries(npz(npy(np.zeros(3)), method=method), 1000)

    @pytest.mark.parametrize(
        "array", [np.zeros(3, complex), np.zeros(3, "S4"), np.zeros(3, object)]
    )
    def test_other_things_than_numbers_and_text(self, array):
        with pytest.raises(ValueError, match="entry"):
            npz_entries(npz(npy(array)), 1000)

    def test_texts_without_letters_in_any_number(self):
        with pytest.raises(ValueError, match="entry"):
            npz_entries(npz(npy(np.zeros(0), descr="<U0", shape=(10**15,))), 1000)


class TestFiles:
    def test_one_that_is_too_large(self, figure, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "LARGEST", 100)
        assert "holds more than" in refused(save(figure, tmp_path / "a.json"))

    def test_json_that_is_too_large(self, figure, tmp_path, monkeypatch):
        monkeypatch.setattr(reading, "LARGEST_TEXT", 100)
        assert "JSON takes more" in refused(save(figure, tmp_path / "a.json"))
        path = save(figure, tmp_path / "b.safetensors")
        assert "b.json holds more than" in refused(path)

    def test_one_that_is_none(self, tmp_path):
        assert "cannot read" in refused(tmp_path / "gone\x1b[31m.json")
        assert "is no file" in refused(tmp_path)
        assert "cannot read" in refused(tmp_path / "a\0b")
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe")
            assert "is no file" in refused(tmp_path / "pipe")

    def test_a_pair_that_is_none(self, figure, tmp_path):
        path = save(figure, tmp_path / "a.safetensors")
        assert "sidecar of safetensors" in refused(tmp_path / "a.json")
        changed = replace(figure, values=np.ones_like(figure.values))
        save(changed, tmp_path / "b.safetensors")
        (tmp_path / "b.json").rename(tmp_path / "a.json")
        assert "belongs to other arrays" in refused(path)
        (tmp_path / "a.json").unlink()
        assert "cannot read" in refused(path)

    def test_what_is_no_number_of_ours(self, figure, tmp_path):
        path = tmp_path / "a.npz"
        path.write_bytes(render(figure, "npz"))
        assert len(read(path).figures) == 1
        np.savez(path, values=np.zeros(2))
        assert "has no figure" in refused(path)
