"""Which dictionaries of a folder are offered for a model."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

import llmscope
from llmscope.learned.dictionaries import local_folders, reader
from llmscope.learned.dictionaries.local_folders import fitting_folders
from tests.learned.dictionaries.files import config, put, put_archive, weights


@pytest.fixture(scope="module")
def info():
    with llmscope.load("builtin:town") as scope:
        found = scope.info()
    assert (found.layers, found.width) == (6, 96)
    return found


def told(hook, architecture="standard", **changes):
    found = config(architecture, **{"d_in": 96, **changes})
    found["metadata"]["hook_name"] = hook
    return found


def names(folder, info):
    return [str(header.path).removeprefix(f"{folder}/") for header in fitting_folders(folder, info)]


def test_dictionaries_that_fit_are_listed_in_the_order_of_layers(tmp_path, info, monkeypatch):
    put(tmp_path / "z-first", told("blocks.0.hook_resid_pre"))
    put(tmp_path / "some" / "b", told("blocks.3.hook_resid_post"))
    put(tmp_path / "some" / "a", told("blocks.3.hook_resid_post"))
    put(tmp_path / "heads", told("blocks.1.attn.hook_z", d_in=64))
    put(tmp_path / "neurons", told("blocks.5.mlp.hook_post", d_in=384))
    put(tmp_path / "mlp", told("blocks.2.hook_mlp_in", "transcoder", d_out=96))
    put(tmp_path / "wide", told("blocks.0.hook_resid_pre", d_in=97))
    put(tmp_path / "deep", told("blocks.6.hook_resid_pre"))
    put(tmp_path / "out", told("blocks.2.hook_mlp_in", "transcoder", d_out=95))
    put(tmp_path / "unknown", told("blocks.0.hook_resid_pre", "temporal"))
    put(tmp_path / "1" / "2" / "3", told("blocks.0.hook_resid_pre"))
    put(tmp_path / ".hidden", told("blocks.0.hook_resid_pre"))
    put_archive(tmp_path / "gemma-scope-2b-pt-res" / "layer_1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cfg.json").write_text("{")
    (tmp_path / "broken" / "sae_weights.safetensors").write_bytes(b"x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path)
    monkeypatch.setattr(reader, "_tensors", lambda *_: pytest.fail("it was read"))
    wanted = ["z-first", "heads", "mlp", "some/a", "some/b", "neurons"]
    assert names(tmp_path, info) == wanted
    assert names(tmp_path / "some" / "a", info) == [str(tmp_path / "some" / "a")]
    assert names(tmp_path, replace(info, layers=1)) == ["z-first"]
    assert names(tmp_path / "nowhere", info) == []
    assert names(tmp_path / "file", info) == []


def test_counts_are_bounded(tmp_path, info, monkeypatch):
    for at in range(8):
        put(tmp_path / f"{at}", told("blocks.0.hook_resid_pre"))
    monkeypatch.setattr(local_folders, "MOST", 5)
    assert len(names(tmp_path, info)) == 5
    monkeypatch.setattr(local_folders, "FOLDERS", 4)
    assert len(names(tmp_path, info)) == 3


def test_weights_alone_are_no_dictionary(tmp_path, info):
    save_file(weights(config()), tmp_path / "sae_weights.safetensors")
    assert names(tmp_path, info) == []
