"""What a download does on its way: progress, interruptions, revisions, adapters, the cache."""

import hashlib
import shutil
import threading
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from llmscope.builtin import __file__ as builtin
from llmscope.errors import ScopeError
from llmscope.models import progress
from llmscope.models.loading.load import load_model
from llmscope.models.sources import Options, fetch, hub_files, hub_retry
from llmscope.models.spec import parse
from tests.families import small_model
from tests.models.checkpoints import Heard
from tests.models.hub_server import COMMIT, Fault, speak_to

IDS = torch.tensor([[3, 1, 4, 1, 5]])
OTHER = "f" * 40


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A folder with a sharded Llama and a tokenizer, and the logits that it must give."""
    folder = tmp_path_factory.mktemp("local")
    model = small_model("llama")
    model.save_pretrained(folder, max_shard_size="80KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(builtin).parent / "sort" / name, folder)
    expected = logits(load_model(str(folder)))
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected)
    return folder, expected


@pytest.fixture
def shards(local):
    """The names of the shards: four at least."""
    names = sorted(path.name for path in local[0].glob("*.safetensors"))
    assert len(names) >= 4
    return names


def logits(model):
    with torch.no_grad():
        return model.module(IDS).logits


def blobs(tmp_path):
    return tmp_path / "hub" / "models--org--name" / "blobs"


def incomplete(tmp_path):
    return sorted(blobs(tmp_path).glob("*.incomplete"))


def test_every_byte_of_every_shard_is_told(hub, local, tmp_path, monkeypatch):
    folder, expected = local
    hub.put("org/name", folder)
    hub.faults = [Fault(".safetensors", pace=0.005)]
    monkeypatch.setattr(hub_retry, "_BEAT", 0.01)
    monkeypatch.setattr(progress, "_INTERVAL", -1)  # tell everything
    heard = Heard()
    model = load_model("org/name", progress=heard)
    assert torch.equal(logits(model), expected)
    assert model.tokens is not None
    told = [(done, total) for stage, done, total in heard.calls if "downloading" in stage]
    done = [d for d, _ in told]
    assert done == sorted(done)
    # The config is here before.
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "config.json")
    assert {total for _, total in told} <= {None, size}
    assert told[-1] == (size, size)
    assert len({d for d in done if 0 < d < size}) >= 3


def test_a_dropped_connection_is_taken_up_at_once(hub, local, shards, monkeypatch):
    folder, expected = local
    monkeypatch.setattr(hub_retry, "WAITS", (0.4,))
    hub.put("org/name", folder)
    hub.faults = [Fault(shards[1], after=30_000, times=1)]
    heard = Heard()
    model = load_model("org/name", progress=heard)
    assert torch.equal(logits(model), expected)
    size = (folder / shards[1]).stat().st_size
    assert hub.sent(shards[1]) == [(None, 30_000), ("bytes=30000-", size - 30_000)]
    assert any("connection lost, again in" in stage for stage in heard.stages)
    done, total = heard.last("downloading")
    assert done == total


def test_a_later_command_fetches_only_what_is_missing(hub, local, shards, tmp_path):
    folder, expected = local
    hub.put("org/name", folder)
    hub.faults = [Fault(shards[1], after=30_000, times=1), Fault(shards[1], after=0)]
    with pytest.raises(ScopeError) as caught:
        load_model("org/name")
    assert "broke off" in caught.value.message
    assert "goes on from there" in caught.value.hint
    (partial,) = incomplete(tmp_path)
    assert partial.read_bytes() == (folder / shards[1]).read_bytes()[:30_000]
    before = {path.name for path in blobs(tmp_path).iterdir()} - {partial.name}
    hub.faults.clear()
    hub.asked.clear()
    heard = Heard()
    model = load_model("org/name", progress=heard)
    assert torch.equal(logits(model), expected)
    size = (folder / shards[1]).stat().st_size
    assert hub.sent(shards[1]) == [("bytes=30000-", size - 30_000)]
    assert not incomplete(tmp_path)
    again = [name for name in shards if hub.sent(name)]
    kept = [n for n in shards if hashlib.sha256((folder / n).read_bytes()).hexdigest() in before]
    assert set(again).isdisjoint(kept)
    done, total = heard.last("downloading")
    assert done == total
    assert total >= size


def test_a_hub_that_knows_no_ranges_sends_all_of_it_again(hub, local, shards, monkeypatch):
    folder, expected = local
    hub.put("org/name", folder)
    hub.faults = [Fault(shards[1], after=30_000, times=1)]
    hub.ranges = False
    assert torch.equal(logits(load_model("org/name")), expected)
    size = (folder / shards[1]).stat().st_size
    assert hub.sent(shards[1]) == [(None, 30_000), ("bytes=30000-", size)]


def test_a_load_that_is_closed_ends_and_keeps_what_has_arrived(hub, local, shards, tmp_path):
    folder, expected = local
    hub.put("org/name", folder)
    hub.faults = [Fault(".safetensors", pace=0.02)]

    class Closed(BaseException):
        pass

    def close(stage, done, total):
        if "downloading" in stage and done > 20_000:
            raise Closed

    with pytest.raises(Closed):
        load_model("org/name", progress=close)
    assert not [t for t in threading.enumerate() if "work" in t.name and t.is_alive()]
    parts = incomplete(tmp_path)
    assert parts
    kept = {path.name.split(".")[0]: path.stat().st_size for path in parts}
    hub.faults.clear()
    hub.asked.clear()
    assert torch.equal(logits(load_model("org/name")), expected)
    for name in shards:
        content = (folder / name).read_bytes()
        have = kept.get(hashlib.sha256(content).hexdigest(), 0)
        if have:
            assert hub.sent(name) == [(f"bytes={have}-", len(content) - have)]


def test_a_hub_that_says_nothing_can_be_left(hub, local, monkeypatch):
    """The report is what ends it, so reports must come while nothing else does."""
    hub.put("org/name", local[0])
    hub.faults = [Fault("org/name", pace=60)]
    beats = []

    def close(stage, done, total):
        beats.append(stage)
        if len(beats) > 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(hub_retry, "_GRACE", 0.01)
    with pytest.raises(KeyboardInterrupt):
        load_model("org/name", progress=close)
    assert beats == ["asking the hub for org/name"] * 4


def test_two_who_want_the_same_file_fetch_it_once(hub, local, shards):
    hub.put("org/name", local[0])
    hub.faults = [Fault(".safetensors", pace=0.005)]
    both = [threading.Thread(target=load_model, args=("org/name",)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    for name in shards:
        assert hub.sent(name) == [(None, (local[0] / name).stat().st_size)]


def test_the_token_goes_to_the_hub_alone(hub, local, monkeypatch):
    hub.put("org/name", local[0])
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    load_model("org/name")
    for ask in hub.asked:
        to_the_hub = ask.host.startswith("127.0.0.1")
        assert ask.token == ("Bearer hf_secret" if to_the_hub else None)
    assert any(not ask.host.startswith("127.0.0.1") for ask in hub.asked)


class TestWithoutTheHub:
    @pytest.fixture
    def opened(self, hub, local):
        hub.put("org/name", local[0])
        load_model("org/name")
        hub.asked.clear()
        return hub

    def test_offline_asks_nothing(self, opened, local, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        model = load_model("org/name")
        assert torch.equal(logits(model), local[1])
        assert (opened.asked, model.revision) == ([], COMMIT)
        assert not any("cache" in notice for notice in model.notices)

    def test_a_hub_that_is_down(self, opened, local, monkeypatch):
        speak_to(monkeypatch, "http://127.0.0.1:9")
        model = load_model("org/name")
        assert torch.equal(logits(model), local[1])
        assert any("taken from the local cache" in notice for notice in model.notices)

    def test_a_hub_that_has_trouble_is_not_waited_for(self, opened, local):
        opened.status["org/name"] = (503, {"Retry-After": "30"}, b"")
        assert torch.equal(logits(load_model("org/name")), local[1])
        assert len([ask for ask in opened.asked if "/api/models" in ask.path]) == 1

    def test_the_old_commit_while_the_new_one_does_not_come(self, opened, local, tmp_path):
        newer, _ = changed(local[0], tmp_path)
        opened.commit("org/name", OTHER, newer, "main")
        opened.faults = [Fault(".safetensors", after=10)]
        model = load_model("org/name")
        assert (model.revision, torch.equal(logits(model), local[1])) == (COMMIT, True)
        assert any("broke off" in notice for notice in model.notices)

    def test_the_library_finds_it_where_it_looks(self, opened, monkeypatch):
        """Other programs read the same cache, by the library's own functions."""
        from huggingface_hub import scan_cache_dir, snapshot_download

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert Path(snapshot_download("org/name")).name == COMMIT
        (repo,) = scan_cache_dir(constants.HF_HUB_CACHE).repos
        (revision,) = repo.revisions
        assert (repo.repo_id, revision.commit_hash, revision.refs) == (
            "org/name",
            COMMIT,
            frozenset(["main"]),
        )


def changed(folder, tmp_path):
    """Another commit of the same repository: a copy with other weights."""
    model = small_model("llama", rms_norm_eps=1e-3)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(2)
    target = tmp_path / "newer"
    model.save_pretrained(target, max_shard_size="80KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, target)
    return target, logits(load_model(str(target)))


def test_a_branch_a_tag_and_a_commit(hub, local, tmp_path, monkeypatch):
    newer, expected = changed(local[0], tmp_path)
    assert not torch.equal(expected, local[1])
    hub.put("org/name", local[0])
    hub.commits["org/name", COMMIT] = hub.repos["org/name"]
    hub.commit("org/name", OTHER, newer, "v2.0", "try/other")
    for revision in ("v2.0", "try/other", OTHER):
        model = load_model(f"org/name@{revision}")
        assert model.revision == OTHER
        assert torch.equal(logits(model), expected)
    model = load_model("org/name")
    assert (model.revision, torch.equal(logits(model), local[1])) == (COMMIT, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in ("v2.0", "try/other", OTHER):
        assert load_model(f"org/name@{revision}").revision == OTHER
    assert load_model("org/name@main").revision == COMMIT


def test_a_file_too_large_for_http_is_left_to_the_library(hub, local, monkeypatch):
    import huggingface_hub

    asked = []
    original = huggingface_hub.snapshot_download

    def noted(name, **settings):
        asked.append(settings["allow_patterns"])
        return original(name, **settings)

    hub.put("org/name", local[0])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", noted)
    monkeypatch.setattr(
        hub_files.Repository, "_is_for_the_library", lambda self, size: size > 60_000
    )
    heard = Heard()
    model = load_model("org/name", progress=heard)
    assert torch.equal(logits(model), local[1])
    large = [p.name for p in local[0].glob("*.safetensors") if p.stat().st_size > 60_000]
    assert sorted(asked) == sorted([name] for name in large)
    done, total = heard.last("downloading")
    assert done == total


class TestAdapters:
    @pytest.fixture
    def adapter(self, tmp_path):
        folder = tmp_path / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        from safetensors.torch import save_file

        save_file({"lora_A": torch.ones(2, 3)}, folder / "adapter_model.safetensors")
        (folder / "tokenizer.json").write_text("{}")
        (folder / "optimizer.pt").write_bytes(b"x")
        (folder / "adapter_model.bin").write_bytes(b"x")
        return folder

    def names(self, hub, **allowed):
        weights = fetch(parse("org/lora"), Options(**allowed))
        assert (weights.name, weights.revision) == ("lora", COMMIT)
        return {path.name for path in weights.folder.iterdir()}

    def test_the_folder_of_an_adapter(self, hub, adapter, monkeypatch):
        hub.put("org/lora", adapter, a="checkpoint-1__adapter_model.safetensors")
        wanted = {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
        assert self.names(hub) == wanted
        assert hub.fetched() == wanted
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert self.names(hub) == wanted

    def test_pickles_only_when_allowed(self, hub, adapter):
        (adapter / "adapter_model.safetensors").unlink()
        hub.put("org/lora", adapter)
        with pytest.raises(ScopeError) as caught:
            self.names(hub)
        assert "allow_pickle=True" in caught.value.hint
        assert hub.fetched() == {"adapter_config.json"}
        wanted = {"adapter_config.json", "adapter_model.bin", "tokenizer.json"}
        assert self.names(hub, allow_pickle=True) == wanted

    def test_an_adapter_without_weights(self, hub, adapter):
        (adapter / "adapter_model.safetensors").unlink()
        (adapter / "adapter_model.bin").unlink()
        hub.put("org/lora", adapter)
        with pytest.raises(ScopeError) as caught:
            self.names(hub)
        assert "an adapter without adapter_model.safetensors" in caught.value.message

    def test_base_and_adapter_both_come_from_the_hub(self, hub, local, tmp_path):
        from peft import LoraConfig, get_peft_model

        base = small_model("llama")
        base.name_or_path = "org/name"
        wrapped = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.1)
            expected = wrapped.eval()(IDS).logits
        wrapped.save_pretrained(tmp_path / "lora")
        hub.put("org/name", local[0])
        hub.put("org/lora", tmp_path / "lora")
        model = load_model("org/lora")
        (adapted,) = model.adapted.values()
        assert torch.equal(logits(model), local[1])
        torch.testing.assert_close(logits(adapted), expected, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(expected, local[1], atol=1e-2)


def test_the_library_begins_a_cut_download_anew(hub, local, shards):
    """Why we do not call `snapshot_download`: on a slow line a shard may never arrive whole.

    Once the library resumes what an earlier process has left, this fails, and ours can go.
    """
    from huggingface_hub import hf_hub_download

    folder, _ = local
    hub.put("org/name", folder)
    hub.faults = [Fault(shards[1], after=30_000, times=1), Fault(shards[1], after=0)]
    with pytest.raises(Exception, match=r"."):
        hf_hub_download("org/name", shards[1])
    hub.faults.clear()
    hub.asked.clear()
    hf_hub_download("org/name", shards[1])
    assert hub.sent(shards[1]) == [(None, (folder / shards[1]).stat().st_size)]
