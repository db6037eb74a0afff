"""What a snapshot may hold at most: a hostile file is refused before it costs much."""

import io
import json
import time
import tracemalloc
import zipfile
from contextlib import contextmanager

import numpy as np
import pytest

from llmscope.errors import ScopeError
from llmscope.export import bounds
from llmscope.export.bounds import parse_json
from llmscope.export.diff import diff
from llmscope.export.read import numbers, read
from llmscope.export.read_npz import npz_entries
from llmscope.figure import Axis, Figure

SECONDS = 2.0
"""CPU seconds that none of these may take; before, they took from seven to more than sixty."""


@contextmanager
def quick():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < SECONDS


def record(**changes):
    figure = {
        "lens": "next-token",
        "title": "Next",
        "kind": "bars",
        "unit": "probability",
        "axes": [{"name": "candidate", "labels": ["a", "b"]}],
        "values": [0.5, 0.25],
        "verdict": {"status": "verified", "reason": ""},
        "extra": {},
    }
    figure |= {key: changes.pop(key) for key in tuple(changes) if key in figure}
    return {"figures": [figure], **changes}


def refused(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with quick(), pytest.raises(ScopeError) as caught:
        read(path)
    assert "is no snapshot" in caught.value.message
    assert len(caught.value.message) < 500
    return caught.value.message


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"edits": ["zero head 0.0"] * 200_000}, "more than 500 edits"),
        ({"edits": ["x" * 100_001]}, "an edit is longer"),
        ({"provenance": {str(at): at for at in range(100_000)}}, "entries beside its figures"),
        ({"provenance": {"x": [1] * 100_000}}, "entries beside its figures"),
        ({"provenance": {"k" * 10_001: 1}}, "a key is longer"),
        ({"title": "\u094d" * 300_000}, "a figure's title is longer"),
        ({"unit": "u" * 10_001}, "a figure's unit is longer"),
        ({"verdict": {"status": "partial", "reason": "ab" * 9999}}, "a reason is longer"),
        ({"axes": [{"name": "x" * 10_001, "labels": ["a", "b"]}]}, "name of an axis is longer"),
        ({"axes": [{"name": "x", "labels": ["a" + "\u0301" * 300_000, "b"]}]}, "label is longer"),
        (
            {"axes": [{"name": "x", "labels": ["a", "b"], "start": 10**300}]},
            "invalid start or step",
        ),
        ({"axes": [{"name": "x", "labels": ["a", "b"], "step": True}]}, "invalid start or step"),
        ({"extra": {"caption": ["x"] * 101}}, "lines of words"),
        ({"extra": {"said": [{"deep": ["x" * 10_001]}]}}, "text of a figure is longer"),
        ({"tokens": [{"text": "\u0915" * 9_000}] * 120}, "characters beyond ASCII"),
    ],
)
def test_what_is_too_long_or_too_many(tmp_path, changes, wanted):
    assert wanted in refused(tmp_path / "a.json", record(**changes))


def test_too_many_figures_and_labels(tmp_path):
    many = {"figures": record()["figures"] * (bounds.MOST_FIGURES + 1)}
    assert f"more than {bounds.MOST_FIGURES} figures" in refused(tmp_path / "a.json", many)
    labels = {"name": "x", "labels": ["a"] * (bounds.MOST_LABELS + 1)}
    found = record(axes=[labels], values=[0] * (bounds.MOST_LABELS + 1))
    assert "labels" in refused(tmp_path / "a.json", found)


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ("[" * 60 + "]" * 60, "nested too deep"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested too deep"),
        ("9" * 1_000_000, "thousands of digits"),
        ("Infinity", "not JSON"),
        ('{"a": 1, "a": 2}', "the same key twice"),
    ],
)
def test_json_that_is_refused(tmp_path, inner, wanted):
    text = json.dumps(record(extra={"x": 0})).replace('"x": 0', f'"x": {inner}')
    assert wanted in refused(tmp_path / "a.json", text)


@pytest.mark.parametrize("piece", ["1,", "[],", '{"a":1},', '"",', '"ab\U0001f468",'])
def test_what_json_takes_is_known_before(monkeypatch, piece):
    text = ("[" + piece * 20_000 + "0]").encode()
    tracemalloc.start()
    found = parse_json(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 20_001
    assert peak < 1.2 * bounds._memory(text)
    monkeypatch.setattr(bounds, "MEMORY", bounds._memory(text) - 1)
    with pytest.raises(ValueError, match="of memory"):
        parse_json(text)


def test_texts_of_one_length_are_not_made_of_a_list():
    tracemalloc.start()
    assert numbers(["a" * 1_000_000, *[""] * 10_000]) is None  # numpy would take 40 GB
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert numbers([[1, 2], [3]]) is None
    assert numbers([1, [2]]) is None
    found = numbers([[1, None], [3, 4]])
    assert np.array_equal(found, [[1, np.nan], [3, 4]], equal_nan=True)
    assert numbers([True, False]).dtype == bool
    assert numbers([10**400]) is None


def npz(header, size, content=b""):
    """An npz whose one entry has such a header and so many zeros after it."""
    head, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", head.getvalue() + (content or bytes(size)))
    return buffer.getvalue()


def described(descr, *shape):
    return {"descr": descr, "fortran_order": False, "shape": shape}


def test_a_bomb_of_truth_values_is_refused_by_its_header():
    count = bounds.MOST_NUMBERS + 1
    data = npz(described("|b1", count), count)
    assert len(data) < 100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="numbers"):
        npz_entries(data, 1 << 30)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("descr", "shape", "size"),
    [
        ("<f4", (0, 1 << 62, 1 << 62), 0),
        ("<f4", (0,) * 60, 0),
        ("<f4", (-1,), 0),
        ("<f4", (1 << 40, 1 << 40), 8),
        ("<f16", (1,), 16),
        ("<c8", (1,), 8),
        ("|V8", (1,), 8),
        ("|S8", (1,), 8),
        ("<M8[s]", (1,), 8),
        ("<U2", (1, 1), 8),
    ],
)
def test_shapes_and_types_that_are_refused(descr, shape, size):
    with pytest.raises(ValueError, match=r"entry|numbers"):
        npz_entries(npz(described(descr, *shape), size), 1 << 20)


def test_numbers_in_any_order_of_bytes():
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    found = npz_entries(npz(described(">f4", 2, 3), 0, array.tobytes()), 1 << 20)["values"]
    assert found.dtype == np.dtype("=f4")
    assert np.array_equal(found, array)
    odd = npz_entries(npz(described("|b1", 2), 0, b"\2\0"), 1 << 20)["values"]
    assert odd.tobytes() == b"\1\0"


def test_two_entries_of_one_name():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("values.npy", "values"):
            with archive.open(name, "w") as file:
                np.lib.format.write_array(file, np.zeros(2))
    with pytest.raises(ValueError, match="two entries"):
        npz_entries(buffer.getvalue(), 1 << 20)


def test_large_arrays_are_compared_in_parts(monkeypatch):
    monkeypatch.setattr("llmscope.export.diff._BLOCK", 1 << 14)
    chance = np.random.default_rng(0)
    values = chance.normal(size=(3, 200_000)).astype(np.float32)
    other = values.copy()
    other[2, 199_999] += 3
    other[0, 0] = np.nan
    axes = (Axis("a", ("x", "y", "z")), Axis("b", ("",) * 200_000))
    one, two = (Figure("x", "X", "heatmap", axes, array, "bits") for array in (values, other))
    from llmscope.export.read import Snapshot

    tracemalloc.start()
    found = diff(Snapshot({}, (one,)), Snapshot({}, (two,)), 1e-5).figures[0]
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    tracemalloc.stop()
    assert found.largest == pytest.approx(3, abs=1e-5)
    assert [place for _, place, _ in found.where] == [2, 199_999]
    assert "values: 1 in one alone" in found.faults
