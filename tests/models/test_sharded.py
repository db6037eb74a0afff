"""Weights in several files, and the index that lists them."""

import json

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.files.checkpoint import is_whole
from llmscope.models.loading.load import load_model
from tests.families import small_model

INDEX = "model.safetensors.index.json"


@pytest.fixture
def sharded(tmp_path):
    model = small_model("llama")
    model.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2
    return tmp_path / "model", model


def relisted(folder, change):
    """Write the index again with its list of files changed."""
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"] = {name: change(file) for name, file in index["weight_map"].items()}
    path.write_text(json.dumps(index))


def refusal(folder, **options):
    with pytest.raises(ScopeError) as caught:
        load_model(str(folder), **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


def test_all_shards_load(sharded):
    folder, model = sharded
    weights = load_model(str(folder)).module.state_dict()
    assert all(torch.equal(weights[name], own) for name, own in model.state_dict().items())


def test_a_missing_shard_is_named(sharded):
    folder, _ = sharded
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    second.unlink()
    assert second.name in refusal(folder)
    first.unlink()
    assert refusal(folder).endswith(f"{first.name} and 1 more")
    for left in folder.glob("*.safetensors"):
        left.unlink()
    assert first.name in refusal(folder)


@pytest.mark.parametrize("where", ["../{}", "{0}/../../{0}", "/{}", "..\\{}"])
def test_a_file_outside_of_the_folder_is_refused(sharded, where):
    folder, _ = sharded
    for shard in folder.glob("*.safetensors"):
        (folder.parent / shard.name).write_bytes(shard.read_bytes())  # what it lists is there
    relisted(folder, where.format)
    assert "not in the folder" in refusal(folder)
    assert not is_whole(folder, "*.safetensors")


def test_a_pickled_index_is_held_to_the_same(tmp_path):
    small_model("llama").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"lm_head.weight": "../pytorch_model.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert "not in the folder" in refusal(tmp_path, allow_pickle=True)


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 1}', '{"weight_map": {"a": [1]}}'])
def test_an_index_that_is_none(sharded, content):
    folder, _ = sharded
    (folder / INDEX).write_text(content)
    assert "cannot be used" in refusal(folder)


def test_a_link_to_a_shard_elsewhere_is_followed(sharded):
    """The hub's cache keeps its files so."""
    folder, _ = sharded
    shard = min(folder.glob("*.safetensors"))
    elsewhere = folder.parent / "blob"
    shard.rename(elsewhere)
    shard.symlink_to(elsewhere)
    assert load_model(str(folder)).dtype == torch.float32
    elsewhere.unlink()
    assert shard.name in refusal(folder)
