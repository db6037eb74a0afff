"""The forms of files that are read, and what their configs tell."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from llmscope.learned.dictionaries.catalog import headers_at
from llmscope.learned.dictionaries.place import Place
from llmscope.learned.dictionaries.reader import folders_of, read_dictionary, read_header
from tests.learned.dictionaries.files import (
    FEATURES,
    WIDTH,
    config,
    put,
    put_archive,
    put_second,
    weights,
)

SCOPE = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"


def read(folder):
    (header,) = headers_at(str(folder))
    return read_dictionary(header)


def test_a_folder_of_saelens_6(tmp_path):
    told = config("jumprelu")
    told["metadata"] |= {"model_name": "gpt2-small", "prepend_bos": True, "other": [1]}
    told["metadata"]["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    tensors = put(tmp_path, told)
    (header,) = headers_at(str(tmp_path))
    assert (header.reads, header.writes) == (Place(1, "resid_pre"),) * 2
    assert (header.width, header.out_width, header.features) == (WIDTH, WIDTH, FEATURES)
    assert header.subtracts
    assert header.centred is True
    assert header.about == {
        "model_name": "gpt2-small",
        "prepend_bos": True,
        "hook_name": "blocks.1.hook_resid_pre",
        "sae_lens_version": "6.0.0",
    }
    found = read(tmp_path)
    assert torch.equal(found.encoder, tensors["W_enc"])
    assert torch.equal(found.threshold, tensors["threshold"])
    assert len(found.digest) == 64


@pytest.mark.parametrize("k", [{"activation_fn_kwargs": {"k": 4}}, {"k": 4}])
def test_a_config_before_version_6(tmp_path, k):
    told = {
        "d_in": WIDTH,
        "d_sae": FEATURES,
        "hook_point": "blocks.0.hook_resid_pre",
        "hook_point_head_index": None,
        "activation_fn": "topk",
        "model_name": "gpt2",
        **k,
    }
    put(tmp_path, told, weights({"architecture": "topk", **told}))
    found = read(tmp_path).header
    assert (found.activation, found.k, found.rescaling) == ("topk", 4, "none")
    assert found.reads == Place(0, "resid_pre")
    assert found.subtracts
    assert found.centred is None


def test_the_factor_of_old_files(tmp_path):
    told, factor = config(), torch.linspace(0.5, 1.5, FEATURES)
    tensors = weights(told)
    put(tmp_path, told, tensors | {"scaling_factor": factor})
    assert torch.equal(read(tmp_path).decoder, tensors["W_dec"] * factor[:, None])


def test_one_threshold_for_all_features(tmp_path):
    told = config("batchtopk")
    put(tmp_path, told, weights(told) | {"threshold": torch.tensor(0.25)})
    assert read(tmp_path).threshold.tolist() == [0.25] * FEATURES


def test_heads(tmp_path):
    told = config(reshape_activations="hook_z")
    told["metadata"]["hook_name"] = "blocks.2.attn.hook_z"
    put(tmp_path / "all", told)
    told["metadata"]["hook_head_index"] = 3
    put(tmp_path / "one", told)
    places = [header.reads for header in headers_at(str(tmp_path))]
    assert places == [Place(2, "z"), Place(2, "z", 3)]


@pytest.mark.parametrize(
    ("path", "reads", "writes", "model"),
    [
        (SCOPE, "20.resid_post", "20.resid_post", "gemma-2-2b"),
        ("gemma-scope-9b-it-res/layer_0/x", "0.resid_post", "0.resid_post", "gemma-2-9b-it"),
        ("models--google--gemma-scope-27b-pt-mlp/layer_3", "3.mlp_out", "3.mlp_out", "gemma-2-27b"),
        ("gemma-scope-2b-pt-att/layer_7", "7.z", "7.z", "gemma-2-2b"),
        ("gemma-scope-2b-pt-transcoders/layer_7/width_16k/x", "7.mlp_normed", "7.mlp_out", None),
    ],
)
def test_gemma_scope(tmp_path, path, reads, writes, model):
    tensors = put_archive(tmp_path / path)
    found = read(tmp_path / path)
    assert (str(found.header.reads), str(found.header.writes)) == (reads, writes)
    assert found.header.model == (model or "gemma-2-2b")
    assert found.header.centred is False
    assert not found.header.subtracts
    assert torch.equal(found.encoder, tensors["W_enc"])
    assert torch.equal(found.threshold, tensors["threshold"])


def test_an_archive_with_a_config_beside_it(tmp_path):
    put_archive(tmp_path / "mine")
    told = config("jumprelu", apply_b_dec_to_input=False)
    (tmp_path / "mine" / "cfg.json").write_text(json.dumps(told))
    assert read(tmp_path / "mine").header.reads == Place(1, "resid_pre")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy(tmp_path, save, order):
    tensors = weights(config("jumprelu"))
    folder = tmp_path / SCOPE
    folder.mkdir(parents=True)
    arrays = {name: np.asarray(one.numpy(), order=order) for name, one in tensors.items()}
    save(folder / "params.npz", **arrays)
    assert torch.equal(read(folder).encoder, tensors["W_enc"])


def test_gemma_scope_2(tmp_path):
    told = {
        "architecture": "jump_relu",
        "model_name": "google/gemma-3-1b-pt",
        "hf_hook_point_in": "model.layers.9.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.9.post_feedforward_layernorm.output",
    }
    skip = torch.arange(WIDTH * WIDTH).reshape(WIDTH, WIDTH).float()
    tensors = put_second(tmp_path / "x", told, affine_skip_connection=skip)
    found = read(tmp_path / "x")
    assert (str(found.header.reads), str(found.header.writes)) == ("9.mlp_in", "9.mlp_out")
    assert torch.equal(found.encoder, tensors["w_enc"])
    assert torch.equal(found.skip, skip.T)


@pytest.mark.parametrize(
    ("path", "reads", "writes"),
    [
        ("resid_post/layer_7_width_16k_l0_small", "7.resid_post", "7.resid_post"),
        ("resid_post_all/layer_7_width_16k_l0_small", "7.resid_post", "7.resid_post"),
        ("attn_out/layer_12_width_16k_l0_big", "12.z", "12.z"),
        ("mlp_out/layer_0_width_16k_l0_big", "0.mlp_out", "0.mlp_out"),
        ("transcoder/layer_3_width_16k_l0_big_affine", "3.mlp_in", "3.mlp_out"),
    ],
)
def test_gemma_scope_2_without_a_config(tmp_path, path, reads, writes):
    folder = tmp_path / "models--google--gemma-scope-2-270m-it" / "snapshots" / "0" / path
    put_second(folder, {})
    (folder / "config.json").unlink()
    found = read(folder).header
    assert (str(found.reads), str(found.writes)) == (reads, writes)
    assert found.model == "gemma-3-270m-it"


def test_a_folder_of_folders(tmp_path, monkeypatch):
    for at in (2, 0, 10):
        told = config()
        told["metadata"]["hook_name"] = f"blocks.{at}.hook_resid_pre"
        put(tmp_path / "all" / f"layer_{at}", told)
    (tmp_path / "all" / "notes").mkdir()
    (tmp_path / "all" / "README.md").write_text("x")
    headers = headers_at(f"{tmp_path}/all/")
    assert [header.reads.layer for header in headers] == [0, 10, 2]
    names = [header.name for header in headers]
    assert names == [f"{tmp_path}/all/layer_{at}" for at in (0, 10, 2)]
    assert [headers_at(name) for name in names] == [[header] for header in headers]
    file = tmp_path / "all" / "layer_2" / "sae_weights.safetensors"
    assert folders_of(str(file)) == [file.parent]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(headers_at("~/all")) == 3


def test_a_dictionary_is_read_again_when_its_files_change(tmp_path):
    told = config()
    put(tmp_path, told)
    first = read(tmp_path)
    assert read(tmp_path) is first
    put(tmp_path, told, weights(told, seed=5))
    again = read(tmp_path)
    assert not torch.equal(again.encoder, first.encoder)
    assert again.digest != first.digest
    (tmp_path / "cfg.json").write_text(json.dumps(config(normalize_activations="layer_norm")))
    assert read(tmp_path).header.rescaling == "layer_norm"


def test_labels_beside_the_weights(tmp_path):
    put(tmp_path)
    lines = [{"index": "3", "description": " towns "}, {"index": 4, "description": "rivers"}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read(tmp_path).labels
    assert found == {3: "towns", 4: "rivers"}


def test_tensors_that_are_not_used_are_not_read(tmp_path):
    told = config()
    put(tmp_path, told, weights(told) | {"other": torch.tensor([1, 2])})
    save_file({"sparsity": torch.ones(FEATURES)}, tmp_path / "sparsity.safetensors")
    assert read(tmp_path).encoder.shape == (WIDTH, FEATURES)


def test_headers_read_no_weights(tmp_path):
    put(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"nothing")
    assert read_header(tmp_path, "x").features == FEATURES
