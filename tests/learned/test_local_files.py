"""Which lenses of a folder are offered for a model."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import llmscope
from llmscope.learned.lenses.lens import AffineMap, LearnedLens
from llmscope.learned.lenses.local_files import fitting_files
from llmscope.learned.lenses.writer import write_lens


@pytest.fixture(scope="module")
def info():
    with llmscope.load("builtin:town") as scope:
        yield scope.info()


def lens(width=96, layers=6, name="builtin:town"):
    maps = {at: AffineMap(torch.eye(width)) for at in range(1, layers)}
    return LearnedLens("jacobian", maps, width, layers, {"model_name": name})


def test_lenses_that_fit_are_listed_and_nothing_else(tmp_path, info):
    write_lens(lens(), tmp_path / "fits.safetensors")
    write_lens(lens(), tmp_path / "fits.pt")
    write_lens(lens(name=""), tmp_path / "unnamed.pt")
    write_lens(lens(width=48), tmp_path / "narrow.safetensors")
    write_lens(lens(layers=4), tmp_path / "short.pt")
    write_lens(lens(name="org/another"), tmp_path / "another.safetensors")
    torch.save({"weights": torch.eye(3)}, tmp_path / "model.pt")
    save_file({"x": torch.eye(3)}, tmp_path / "model.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"PK nothing")
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    config = {"num_hidden_layers": 6, "d_model": 96, "base_model_name_or_path": "org/town"}
    (tuned / "config.json").write_text(json.dumps(config))
    (tuned / "params.pt").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    found = fitting_files(tmp_path, info)
    assert [(one.name, one.kind) for one in found] == [
        (str(tmp_path / "fits.pt"), "jacobian"),
        (str(tmp_path / "fits.safetensors"), "jacobian"),
        (str(tmp_path / "tuned"), "tuned"),
        (str(tmp_path / "unnamed.pt"), "jacobian"),
    ]
    assert fitting_files(tmp_path, replace(info, layers=7)) == []
    assert fitting_files(tmp_path / "nowhere", info) == []
