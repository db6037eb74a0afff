import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from llmscope.errors import ScopeError
from llmscope.export import pair, render, save, sidecar_path, write_all
from tests.cli.running import failure, record, run
from tests.export.schema import faults

ASK = ("snapshot", "builtin:sort", "--prompt", "CABACB")
LENSES = (
    "--lens",
    "tokens",
    "--lens",
    "next-token",
    "--lens",
    "attention",
    "--lens",
    "walkthrough",
)


def test_arrays_and_sidecar_together_are_the_snapshot(tmp_path):
    path = tmp_path / "a.safetensors"
    result = run(*ASK, *LENSES, "--out", path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    beside = json.loads((tmp_path / "a.json").read_text())
    assert faults(beside) == []
    assert beside["tensors"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    arrays = load_file(path)
    whole = record(*ASK[1:], *LENSES)
    for key in whole.keys() - {"figures", "provenance"}:
        assert beside[key] == whole[key]
    assert beside["provenance"]["command"].endswith("--format safetensors")
    for place, figure in enumerate(whole["figures"]):
        own, prefix = beside["figures"][place], f"{place}.{figure['lens']}."
        values = arrays.pop(f"{prefix}values")
        assert values.dtype == np.float32
        assert values.shape == tuple(len(axis["labels"]) for axis in figure["axes"])
        np.testing.assert_array_equal(values, np.array(figure["values"], np.float32))
        for key, value in figure["extra"].items():
            if key in own["extra"]:
                assert own["extra"][key] == value
            else:
                array = arrays.pop(f"{prefix}{key}")
                np.testing.assert_array_equal(array, np.array(value, array.dtype))
                assert key != "ids" or array.dtype == np.int64
    assert arrays == {}


def test_what_is_not_finite_and_what_is_ragged(figure, tmp_path):
    odd = replace(figure, extra={"lists": [[1], [1, 2]], "one": 3, "none": None})
    path = save(odd, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(load_file(path)["0.any.values"], figure.values)
    (beside,) = json.loads((tmp_path / "a.json").read_text())["figures"]
    assert beside["extra"] == {"lists": [[1], [1, 2]], "one": 3, "none": None}
    assert render(odd, "npz")


def test_it_is_the_same_every_time(figure):
    many = [replace(figure, extra={f"e{i}": np.arange(i) for i in range(20)})] * 3
    assert pair(many) == pair(many)


def test_one_document_cannot_hold_it(figure):
    with pytest.raises(ScopeError, match="two files"):
        render(figure, "safetensors")


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a.safetensors", "a.json"), ("a.SafeTensors", "a.json"), ("a", "a.json")],
)
def test_where_the_sidecar_stands(tmp_path, name, beside):
    assert sidecar_path(tmp_path / name) == tmp_path / beside


class TestTwoFiles:
    @pytest.mark.parametrize("options", [(), ("--out", "-")])
    def test_stdout_is_one(self, options):
        said = failure(*ASK, *LENSES, "--format", "safetensors", *options, code=2)
        assert "--out" in said

    def test_either_that_exists_stands(self, tmp_path):
        path = tmp_path / "a.safetensors"
        (tmp_path / "a.json").write_text("mine")
        assert "a.json exists" in failure(*ASK, *LENSES, "--out", path)
        assert os.listdir(tmp_path) == ["a.json"]
        assert run(*ASK, *LENSES, "--out", path, "--force").exit_code == 0
        assert faults(json.loads((tmp_path / "a.json").read_text())) == []

    def test_a_device_is_no_place_for_them(self):
        said = failure(*ASK, *LENSES, "--format", "safetensors", "--out", os.devnull, "--force")
        assert "is no file" in said

    def test_neither_is_left_half_written(self, tmp_path, monkeypatch):
        def full(source, target):
            raise OSError(28, "No space left on device")

        (tmp_path / "a").write_text("old")
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(ScopeError, match="No space left"):
            write_all({tmp_path / "a": "new", tmp_path / "b": "new"}, force=True)
        assert os.listdir(tmp_path) == ["a"]
        assert (tmp_path / "a").read_text() == "old"

    def test_nothing_is_replaced_before_both_can_be(self, tmp_path):
        (tmp_path / "a").write_text("old")
        with pytest.raises(ScopeError, match="cannot write"):
            write_all({tmp_path / "a": "new", tmp_path / "no" / "b": "new"}, force=True)
        assert (tmp_path / "a").read_text() == "old"
