import json
import threading
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from tests.models.checkpoints import Heard, edit_config, save_model, write_config


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def refusal(folder, **options):
    with pytest.raises(ScopeError) as caught:
        load_model(str(folder), **options)
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_a_folder_loads_as_it_was_saved(folder):
    saved = save_model(folder)
    heard = Heard()
    model = load_model(str(folder), progress=heard)
    weights = saved.state_dict()
    assert all(torch.equal(w, weights[name]) for name, w in model.module.state_dict().items())
    assert not model.module.training
    assert (model.spec, model.name) == (str(folder), "model")
    assert model.dtype == torch.float32
    size = (folder / "model.safetensors").stat().st_size
    assert heard.calls[0] == ("reading the weights", 0, size)
    assert heard.last("reading the weights") == (size, size)
    assert heard.calls[-1] == ("reading the tokenizer", 0, None)


def test_without_a_tokenizer_it_takes_ids(folder):
    save_model(folder)
    model = load_model(str(folder))
    assert model.tokens is None
    assert "no tokenizer" in model.notices[0]
    assert model.label(5) == "5"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tokenizer.json", b"{", ""),
        ("tokenizer.json", b"{}", "KeyError 'added_tokens'"),
        ("tokenizer.json", b"null", "AttributeError"),
        ("tokenizer.json", b"\xff\x00", "utf-8"),
        ("tokenizer_config.json", b"{", ""),
        ("tokenizer_config.json", b"[]", ""),
        ("tokenizer_config.json", b"{}", ""),
        ("vocab.json", b'{"a": 0}', ""),
        ("tokenizer.model", b"nonsense", ""),
    ],
)
def test_a_broken_tokenizer_is_a_notice(folder, name, content, why):
    save_model(folder)
    (folder / name).write_bytes(content)
    model = load_model(str(folder))
    assert model.tokens is None
    (notice,) = model.notices
    assert notice.startswith("its tokenizer cannot be loaded (")
    assert why in notice
    assert "token ids only" in notice


def test_a_tokenizer_of_another_vocabulary(folder):
    """Ids beyond the embedding are refused; those within run, whatever they mean to the model."""
    save_model(folder)
    sort = Path(llmscope.__file__).parent / "builtin" / "sort"
    (folder / "tokenizer_config.json").write_bytes((sort / "tokenizer_config.json").read_bytes())
    tokenizer = json.loads((sort / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["A"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    scope = llmscope.load(str(folder))
    with pytest.raises(ScopeError, match="token id 5000 is not in the model's vocabulary") as told:
        scope.record("CA")
    assert "0 to 95" in told.value.hint
    assert "tokenizer" in told.value.hint
    assert scope.record("CB").prompt.labels == ("C", "B")
    assert all(label for label in scope.look("next-token").axes[0].labels)


def test_nothing_is_printed(folder, capfd):
    import transformers

    level = transformers.logging.get_verbosity()
    save_model(folder)
    edit_config(folder, eos_token_id=100_000)  # transformers warns of it
    capfd.readouterr()
    load_model(str(folder))
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == level
    assert transformers.logging.set_tqdm_hook(None) is None


def test_two_threads_load_one_after_the_other(monkeypatch):
    """transformers changes its own classes while it loads; two at once left them changed."""
    inside, most = [], []

    def slow(*given, own=AutoModelForCausalLM.from_pretrained, **options):
        inside.append(None)
        most.append(len(inside))
        time.sleep(0.05)
        try:
            return own(*given, **options)
        finally:
            inside.pop()

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", slow)
    loaders = [threading.Thread(target=load_model, args=("builtin:sort",)) for _ in range(3)]
    for loader in loaders:
        loader.start()
    for loader in loaders:
        loader.join()
    assert most == [1, 1, 1]
    assert PreTrainedModel.tie_weights.__qualname__ == "PreTrainedModel.tie_weights"


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_given_to_all_weights(folder, name):
    save_model(folder)
    model = load_model(str(folder), dtype=name)
    assert model.dtype == getattr(torch, name)
    assert {p.dtype for p in model.module.parameters()} == {model.dtype}


def test_half_precision_is_widened_on_a_cpu(folder):
    save_model(folder)
    load_model(str(folder)).module.bfloat16().save_pretrained(folder)
    assert load_model(str(folder), device="cpu").dtype == torch.float32


def test_tiny_models_get_one_thread_and_a_number_is_kept(folder):
    save_model(folder)
    assert load_model(str(folder), threads=2).threads == 2
    assert load_model(str(folder)).threads == 1


@pytest.mark.slow
def test_threads_are_set_while_a_model_runs_and_no_longer(folder):
    before = torch.get_num_threads()
    save_model(folder)
    torch.set_num_threads(3)
    try:
        scope, seen = llmscope.load(str(folder), threads=2), []
        assert torch.get_num_threads() == 3
        layer = scope.model.model.layers[0]
        layer.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        scope.record(list(range(6)))
        scope.look("saliency")
        scope.look("ablation")
        assert set(seen) == {2}
        assert scope.origin().threads == 2
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("device", "tpu"),
        ("device", "cuda:99"),
        ("device", "x y"),
        ("device", "meta"),
        ("dtype", "int8"),
        ("threads", 0),
    ],
)
def test_what_cannot_be_chosen_is_refused(option, value):
    with pytest.raises(ScopeError, match=str(value)):
        load_model(None, **{option: value})


def test_unknown_builtin_lists_the_known():
    with pytest.raises(ScopeError) as caught:
        load_model("builtin:nope")
    assert "builtin:sort" in caught.value.hint


def test_a_folder_without_config(tmp_path):
    assert "config.json" in refusal(tmp_path).message
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert "x.gguf" in refusal(tmp_path).hint
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapter" in refusal(tmp_path).hint


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_config_that_is_none(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    refusal(tmp_path)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model_type": "bert"}, "encoder-only"),
        ({"model_type": "roberta", "architectures": ["RobertaModel"]}, "encoder-only"),
        ({"model_type": "distilbert"}, "no causal language model"),
        ({"model_type": "t5"}, "encoder-decoder"),
        ({"model_type": "bart"}, "encoder-decoder"),
        ({"model_type": "gpt2", "architectures": ["GPT2ForMaskedLM"]}, "encoder-only"),
        ({"model_type": "no-such-thing"}, "no causal language model"),
        ({}, "model_type"),
    ],
)
def test_what_is_no_decoder_is_refused_by_its_config(folder, config, why):
    write_config(folder, **config)
    assert why in refusal(folder).message


def test_encoders_are_refused_with_weights_too(tmp_path):
    from transformers import AutoConfig, AutoModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model("bert", vocab_size=20, intermediate_size=16, **small)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    assert "encoder-only" in refusal(tmp_path).message


def test_code_of_a_model_never_runs_unasked(folder, tmp_path):
    save_model(folder)
    marker = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n")
    edit_config(folder, auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"})
    assert "trust_remote_code=True" in refusal(folder).hint
    assert not marker.exists()


def test_a_class_that_transformers_has_needs_no_code(folder, tmp_path):
    save_model(folder)
    marker = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    edit_config(folder, auto_map={"AutoModelForCausalLM": "own.LlamaForCausalLM"})
    assert type(load_model(str(folder)).module).__module__.startswith("transformers.")
    assert not marker.exists()


def test_pickled_weights_are_loaded_only_when_allowed(folder):
    model = save_model(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert "allow_pickle=True" in refusal(folder).hint
    loaded = load_model(str(folder), allow_pickle=True).module
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_a_folder_without_weights(folder):
    save_model(folder)
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder).message


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_damaged_weights(folder, keep):
    save_model(folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in refusal(folder).message


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:8] + b"x" * 40 + data[48:],
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: b"<html>" * 100,
        lambda data: b"version https://git-lfs.github.com/spec/v1\n",
        lambda data: data.replace(b'"data_offsets":[0,', b'"data_offsets":[9,'),
        lambda data: data + b"x",
    ],
    ids=["head", "length", "web page", "pointer", "offsets", "longer"],
)
def test_corrupted_weights(folder, damage):
    save_model(folder)
    path = folder / "model.safetensors"
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    assert "damaged" in refusal(folder).message


def test_a_link_to_weights_that_never_came(folder):
    save_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "nowhere")
    assert "no weights" in refusal(folder).message


def test_a_config_without_layers(folder):
    save_model(folder)
    edit_config(folder, num_hidden_layers=0)
    assert "layers" in refusal(folder).message


def test_missing_weights_are_no_random_numbers(folder):
    from safetensors.torch import load_file, save_file

    save_model(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    assert "model.layers.1.mlp.down_proj.weight" in refusal(folder).message


def test_weights_that_nobody_takes_are_a_notice(folder):
    from safetensors.torch import load_file, save_file

    save_model(folder)
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"vision.w": torch.ones(2)}, path, metadata={"format": "pt"})
    assert any("vision.w" in notice for notice in load_model(str(folder)).notices)


def test_weights_of_another_shape(folder):
    save_model(folder)
    edit_config(folder, intermediate_size=81)
    refusal(folder)


def test_foreign_text_in_an_error_is_harmless(folder):
    write_config(folder, model_type="\x1b[31m[/nope]")
    assert "\x1b" not in refusal(folder).message


def test_a_model_type_of_any_json_type(folder):
    for kind in (1, None, [], {}):
        (folder.parent / "config.json").write_text(json.dumps({"model_type": kind}))
        refusal(folder.parent)
