"""Dictionaries from a hub on this machine."""

import pytest
from huggingface_hub import constants

from llmscope.errors import ScopeError
from llmscope.learned.dictionaries.catalog import headers_at
from llmscope.learned.dictionaries.hub import fetch_dictionary
from llmscope.learned.dictionaries.place import LAYER as OF_LAYER
from llmscope.learned.dictionaries.place import Place
from llmscope.learned.dictionaries.reader import read_dictionary
from llmscope.models.sources import hub_paths
from tests.learned.dictionaries.files import FEATURES, WIDTH, put, put_archive, put_second
from tests.models.hub_server import COMMIT, speak_to

SCOPE = "google/gemma-scope-2b-pt-res"
LAYER = "layer_20/width_16k/average_l0_71"


@pytest.fixture(autouse=True)
def forgotten():
    """Forget what earlier tests fetched."""
    hub_paths._found.clear()
    hub_paths._failed.clear()


@pytest.fixture
def folder(tmp_path):
    """The files of a repository: two dictionaries of SAELens, and what nobody asked for."""
    home = tmp_path / "repository"
    for at in range(2):
        put(home / f"blocks.{at}.hook_resid_pre")
        (home / f"blocks.{at}.hook_resid_pre" / "sparsity.safetensors").write_bytes(b"x")
    (home / "README.md").write_text("# dictionaries")
    return home


def refusal(name):
    with pytest.raises(ScopeError) as caught:
        fetch_dictionary(name)
    found = caught.value
    assert found.hint
    assert "\n" not in found.message + found.hint
    return found


@pytest.mark.parametrize("ending", ["", "/", "/cfg.json", "/sae_weights.safetensors"])
def test_a_folder_is_fetched_and_read(hub, folder, tmp_path, monkeypatch, ending):
    hub.put("org/name", folder)
    name = f"org/name:blocks.1.hook_resid_pre{ending}"
    (header,) = headers_at(name)
    path = tmp_path / "hub/models--org--name/snapshots" / COMMIT / "blocks.1.hook_resid_pre"
    assert (header.name, header.path) == (name, str(path))
    assert {one.name for one in path.iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    assert hub.fetched() == {"cfg.json", "sae_weights.safetensors"}
    assert read_dictionary(header).encoder.shape == (WIDTH, FEATURES)
    speak_to(monkeypatch, "http://127.0.0.1:9")
    hub_paths._found.clear()
    assert headers_at(name) == [header]
    assert "cannot be reached" in refusal("org/name:blocks.0.hook_resid_pre").message


def test_a_revision(hub, folder, tmp_path):
    hub.put("org/name", folder)
    put(tmp_path / "old" / "first")
    hub.commit("org/name", "f" * 40, tmp_path / "old", "v1")
    assert fetch_dictionary("org/name@v1:first").parent.name == "f" * 40
    assert "no revision v9" in refusal("org/name@v9:first").message


def test_a_folder_in_the_root(hub, tmp_path):
    put(tmp_path / "flat")
    hub.put("org/name", tmp_path / "flat")
    assert "sae_weights.safetensors" in refusal("org/name:folder").hint
    (header,) = headers_at("org/name:sae_weights.safetensors")
    assert header.features == FEATURES


def test_the_place_of_gemma_scope_is_in_the_names(hub, tmp_path):
    put_archive(tmp_path / "scope" / LAYER)
    put_archive(tmp_path / "scope" / "layer_2/width_16k/average_l0_71")
    hub.put(SCOPE, tmp_path / "scope")
    (header,) = headers_at(f"{SCOPE}:{LAYER}")
    assert header.reads == header.writes == Place(20, "resid_post")
    assert (header.model, header.activation) == ("gemma-2-2b", "jumprelu")
    assert hub.fetched() == {"params.npz"}
    assert read_dictionary(header).threshold.shape == (FEATURES,)
    found = refusal(f"{SCOPE}:layer_20")
    assert found.message == f"{SCOPE} has no dictionary layer_20"
    assert found.hint.split(", ")[0] == LAYER


def test_gemma_scope_2(hub, tmp_path):
    told = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-270m-pt",
        "hf_hook_point_in": "model.layers.5.output",
    }
    put_second(tmp_path / "scope" / "resid_post/layer_5_width_16k_l0_small", told)
    hub.put("google/gemma-scope-2-270m-pt", tmp_path / "scope")
    (header,) = headers_at("google/gemma-scope-2-270m-pt:resid_post/layer_5_width_16k_l0_small")
    assert header.reads == Place(5, "resid_post", module=OF_LAYER)
    assert hub.fetched() == {"config.json", "params.safetensors"}


def test_what_is_missing(hub, folder, monkeypatch):
    hub.put("org/name", folder)
    found = refusal("org/name:blocks.1")
    assert found.message == "org/name has no dictionary blocks.1"
    assert set(found.hint.split(", ")) == {"blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"}
    assert "names no dictionary" in refusal("name:blocks.1").message
    assert "no path inside a repository" in refusal("org/name:../blocks.1").message
    assert "no repository" in refusal("org/another:x").message
    hub.repos["org/name"] = {"README.md": b"x"}
    monkeypatch.setattr(hub_paths, "AGAIN", 0.0)
    assert "another repository" in refusal("org/name:blocks.1").hint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not in the local cache" in refusal("org/name:blocks.1").message


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_rubbish_in_the_repository(hub, folder, body):
    hub.put("org/name", folder)
    hub.repos["org/name"]["blocks.0.hook_resid_pre/sae_weights.safetensors"] = body
    assert "damaged" in refusal("org/name:blocks.0.hook_resid_pre").message
