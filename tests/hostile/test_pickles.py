"""Nothing pickled is opened by a side door: the file would be refused by its own name."""

import json
import shutil

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from tests.families import small_model
from tests.models.checkpoints import edit_config, save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """A folder with a small model; every file that torch unpickles ends the test."""
    saved.save_pretrained(tmp_path / "model")

    def load(file, *_, **__):
        pytest.fail(f"unpickled {file}")

    monkeypatch.setattr(torch, "load", load)
    return tmp_path / "model"


def pickled(folder, name):
    torch.save(small_model("llama").state_dict(), folder / name)


def index(folder, name, *files):
    names = list(small_model("llama").state_dict())
    listed = {key: files[at % len(files)] for at, key in enumerate(names)}
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def refusal(folder, *words, **options):
    with pytest.raises(ScopeError) as caught:
        load_model(str(folder), **options)
    text = caught.value.message
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("files", [("w.bin",), ("a.safetensors", "w.bin"), ("w.safetensors.pt",)])
def test_an_index_of_safetensors_that_names_a_pickle(folder, files, allowed):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    pickled(folder, files[-1])
    index(folder, "model.safetensors.index.json", *files)
    refusal(folder, files[-1], allow_pickle=allowed)


@pytest.mark.parametrize(
    "name",
    ["adapter_model.bin", "w.pt", "../w.safetensors", "/w.safetensors", "sub/m.safetensors", 7],
)
def test_weights_that_the_config_names(folder, name):
    pickled(folder, "adapter_model.bin")
    edit_config(folder, transformers_weights=name)
    refusal(folder, "takes weights from")


def test_an_index_that_the_config_names(folder):
    pickled(folder, "w.bin")
    index(folder, "mine.safetensors.index.json", "w.bin")
    edit_config(folder, transformers_weights="mine.safetensors.index.json")
    refusal(folder, "w.bin")


def test_weights_in_the_folder_that_the_config_names_are_taken(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    edit_config(folder, transformers_weights="mine.safetensors")
    assert load_model(str(folder)).name == "model"


def test_an_adapter_beside_a_model(folder):
    pickled(folder, "adapter_model.bin")
    adapter = {"peft_type": "LORA", "target_modules": ["q_proj"], "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    refusal(folder, "a model and an adapter")


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["org/kernel", {"": "org/kernel@main"}])
def test_a_kernel_of_the_hub_that_the_config_asks_for(folder, key, value):
    edit_config(folder, **{key: value})
    refusal(folder, "org/kernel")


def test_pickled_weights_are_loaded_where_that_is_allowed(saved, tmp_path):
    shutil.rmtree(tmp_path / "model", ignore_errors=True)
    saved.save_pretrained(tmp_path / "model")
    pickled(tmp_path / "model", "pytorch_model.bin")
    (tmp_path / "model" / "model.safetensors").unlink()
    refusal(tmp_path / "model", "only pickled")
    model = load_model(str(tmp_path / "model"), allow_pickle=True)
    own = small_model("llama").state_dict()
    assert all(torch.equal(own[name], one) for name, one in model.module.state_dict().items())
