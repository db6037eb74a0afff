"""Hub ids, against a hub on this machine."""

import json

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from tests.models.checkpoints import Heard, edit_config, save_model
from tests.models.hub_server import COMMIT, speak_to


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    save_model(folder)
    return folder


def refusal(spec, **options):
    with pytest.raises(ScopeError) as caught:
        load_model(spec, **options)
    assert caught.value.hint
    return caught.value


def test_a_model_is_fetched_once_with_its_bytes_told(hub, saved, capfd):
    hub.put("org/name", saved, a="pytorch_model.bin", b="own.py", c="onnx__x.json", d="README.md")
    heard = Heard()
    capfd.readouterr()
    model = load_model("org/name", progress=heard)
    assert capfd.readouterr() == ("", "")
    assert (model.name, model.revision) == ("name", COMMIT)
    assert hub.fetched() == {"config.json", "generation_config.json", "model.safetensors"}
    size = (saved / "model.safetensors").stat().st_size
    done, total = heard.last("downloading org/name")
    assert done == total
    assert total >= size
    hub.asked.clear()
    load_model(f"org/name@{COMMIT}")
    assert hub.fetched() == set()


def test_a_cached_model_opens_without_the_hub(hub, saved, monkeypatch):
    hub.put("org/name", saved)
    load_model("org/name")
    speak_to(monkeypatch, "http://127.0.0.1:9")
    assert load_model("org/name").revision == COMMIT
    assert "HF_HUB_OFFLINE" in refusal("org/other").hint
    assert "pypi:" in refusal("org/other").hint


def test_offline_says_so(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = refusal("org/name")
    assert "HF_HUB_OFFLINE" in found.message
    assert "pypi:" in found.hint
    assert hub.asked == []


def test_unknown_gated_and_wrong_revision(hub, saved):
    assert "no model org/name" in refusal("org/name").message
    hub.status["org/name"] = (403, {"X-Error-Code": "GatedRepo"}, b"{}")
    assert "HF_TOKEN" in refusal("org/name").hint
    hub.put("org/name", saved)
    assert "no revision old" in refusal("org/name@old").message


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        (401, "does not give org/name to you (status 401)", "HF_TOKEN"),
        (403, "does not give org/name to you (status 403)", "HF_TOKEN"),
        (404, "has no org/name, or not all of it", "spelling"),
        (418, "failed to send org/name (status 418)", "later"),
        (429, "asks you to wait", "later"),
    ],
)
def test_an_answer_without_a_reason(hub, status, said, hint):
    hub.status["org/name"] = (status, {}, b"{}")
    found = refusal("org/name")
    assert said in found.message
    assert hint in found.hint


@pytest.mark.parametrize("status", [401, 403])
def test_weights_that_are_gated_though_the_config_is_not(hub, saved, status):
    hub.put("org/name", saved)
    hub.refuse("org/name", status, {"X-Error-Code": "GatedRepo"}, ".safetensors")
    found = refusal("org/name")
    assert "is gated" in found.message
    assert "HF_TOKEN" in found.hint
    hub.refused.clear()
    assert load_model("org/name").revision == COMMIT


def test_a_shard_that_never_came_is_not_taken_from_the_cache_for_a_model(hub, saved, monkeypatch):
    whole = saved / "model.safetensors"
    weights = load_file(whole)
    shards = {
        name: f"model-0000{index % 2 + 1}-of-00002.safetensors"
        for index, name in enumerate(weights)
    }
    for shard in set(shards.values()):
        part = {name: tensor for name, tensor in weights.items() if shards[name] == shard}
        save_file(part, saved / shard, metadata={"format": "pt"})
    whole.unlink()
    index = {"metadata": {}, "weight_map": shards}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.put("org/name", saved)
    hub.refuse("org/name", 403, {}, "2-of-00002.safetensors")
    assert "status 403" in refusal("org/name").message
    hub.refused.clear()
    assert load_model("org/name").revision == COMMIT


def test_an_encoder_is_refused_before_its_weights_arrive(hub, saved):
    edit_config(saved, model_type="bert", architectures=["BertModel"])
    hub.put("org/name", saved)
    assert "encoder-only" in refusal("org/name").message
    assert hub.fetched() == {"config.json"}


def test_remote_code_is_not_even_fetched(hub, saved):
    edit_config(saved, auto_map={"AutoModelForCausalLM": "own.Own"})
    hub.put("org/name", saved, a="own.py")
    assert "trust_remote_code=True" in refusal("org/name").hint
    assert hub.fetched() == {"config.json"}


def test_pickles_are_fetched_only_when_allowed(hub, saved):
    from llmscope.models.loading.load import load_model as load

    state = load(str(saved)).module.state_dict()
    (saved / "model.safetensors").unlink()
    torch.save(state, saved / "pytorch_model.bin")
    hub.put("org/name", saved)
    assert "allow_pickle=True" in refusal("org/name").hint
    assert "pytorch_model.bin" not in hub.fetched()
    assert load_model("org/name", allow_pickle=True).revision == COMMIT


def test_a_repository_without_config(hub, saved):
    (saved / "config.json").unlink()
    hub.put("org/name", saved)
    assert "no config.json" in refusal("org/name").message


def test_one_gguf_file_of_many(hub, saved, tmp_path, empty_cache):
    from tests.models.test_gguf import write_gguf

    write_gguf(saved / "x.gguf")
    hub.put("org/name", saved)
    hub.repos["org/name"]["q/y.gguf"] = hub.repos["org/name"]["x.gguf"]
    assert load_model("org/name:q/y.gguf").name == "y"
    assert hub.fetched() == {"y.gguf"}
    assert "no file z.gguf" in refusal("org/name:z.gguf").message


def test_a_hub_that_is_broken(hub, saved):
    hub.status["org/name"] = (500, {}, b"\x1b[31moops\nsecond line")
    assert "\x1b" not in refusal("org/name").message


def test_local_models_ask_no_hub(hub, saved, tmp_path, empty_cache):
    from tests.models.test_gguf import write_gguf

    write_gguf(tmp_path / "x.gguf")
    for spec in (None, str(saved), str(tmp_path / "x.gguf")):
        load_model(spec)
    assert hub.asked == []
