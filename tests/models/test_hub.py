"""The hub, as a small server on this machine that speaks as much of its protocol as is needed."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from llmscope.errors import ScopeError
from llmscope.models.load import load_subject
from tests.models.checkpoints import Heard, edit_config, save_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What a test puts on the hub, and what was asked of it."""

    def __init__(self):
        self.repos = {}
        self.refused = {}
        self.status = {}
        self.asked = []

    def answer(self, path):
        """(status, headers, body) for a path."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, what = "/".join(parts[2:4]), parts[4] if len(parts) > 4 else "revision"
            if name not in self.repos:
                return self.status.get(name, (401, {"X-Error-Code": "RepoNotFound"}, b"{}"))
            if what == "revision":
                if parts[5:6] not in ([], ["main"], [COMMIT]):
                    return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
                return 200, {}, json.dumps({"id": name, "sha": COMMIT, "siblings": []}).encode()
            return 200, {}, json.dumps(self._tree(name)).encode()
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        suffix, refusal = self.refused.get(name, ("", None))
        if refusal is not None and file.endswith(suffix):
            return refusal
        if file not in self.repos.get(name, {}):
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = self.repos[name][file]
        etag = hashlib.sha1(content).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content

    def _tree(self, name):
        return [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in self.repos[name].items()
        ]

    def put(self, name, folder, **more):
        """A repository with the files of a folder."""
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.repos[name] = files | {path.replace("__", "/"): b"x" for path in more.values()}

    def refuse(self, name, status, headers, suffix=""):
        """From now on answer so when files of a repository that end so are asked for."""
        self.refused[name] = (suffix, (status, headers, b"\x1b[31mno"))

    def fetched(self):
        """The files that were downloaded."""
        return {
            path.rsplit("/", 1)[1]
            for method, path in self.asked
            if method == "GET" and "/resolve/" in path
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.hub.asked.append((self.command, self.path))
        status, headers, body = self.server.hub.answer(self.path)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


def _speak_to(monkeypatch, endpoint):
    """What HF_ENDPOINT would do, had it been set before huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _speak_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield server.hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    save_model(folder)
    return folder


def refusal(spec, **options):
    with pytest.raises(ScopeError) as caught:
        load_subject(spec, **options)
    assert caught.value.hint
    return caught.value


def test_a_model_is_fetched_once_with_its_bytes_told(hub, saved, capfd):
    hub.put("org/name", saved, a="pytorch_model.bin", b="own.py", c="onnx__x.json", d="README.md")
    heard = Heard()
    capfd.readouterr()
    subject = load_subject("org/name", progress=heard)
    assert capfd.readouterr() == ("", "")
    assert (subject.name, subject.revision) == ("name", COMMIT)
    assert hub.fetched() == {"config.json", "generation_config.json", "model.safetensors"}
    size = (saved / "model.safetensors").stat().st_size
    done, total = heard.last("downloading org/name")
    assert done == total
    assert total >= size
    hub.asked.clear()
    load_subject(f"org/name@{COMMIT}")
    assert hub.fetched() == set()


def test_a_cached_model_opens_without_the_hub(hub, saved, monkeypatch):
    hub.put("org/name", saved)
    load_subject("org/name")
    _speak_to(monkeypatch, "http://127.0.0.1:9")
    assert load_subject("org/name").revision == COMMIT
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
    assert load_subject("org/name").revision == COMMIT


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
    assert load_subject("org/name").revision == COMMIT


def test_a_full_disk_during_a_download(hub, saved, monkeypatch):
    import huggingface_hub

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    found = refusal("org/name")
    assert "no room for org/name" in found.message
    assert "HF_HOME" in found.hint


def test_an_encoder_is_refused_before_its_weights_arrive(hub, saved):
    edit_config(saved, model_type="bert", architectures=["BertModel"])
    hub.put("org/name", saved)
    assert "encoder-only" in refusal("org/name").message
    assert hub.fetched() == {"config.json"}


def test_remote_code_is_not_even_fetched(hub, saved):
    edit_config(saved, auto_map={"AutoModelForCausalLM": "own.Own"})
    hub.put("org/name", saved, a="own.py")
    assert "--trust-remote-code" in refusal("org/name").hint
    assert hub.fetched() == {"config.json"}


def test_pickles_are_fetched_only_when_allowed(hub, saved):
    from llmscope.models.load import load_subject as load

    state = load(str(saved)).model.state_dict()
    (saved / "model.safetensors").unlink()
    torch.save(state, saved / "pytorch_model.bin")
    hub.put("org/name", saved)
    assert "--allow-pickle" in refusal("org/name").hint
    assert "pytorch_model.bin" not in hub.fetched()
    assert load_subject("org/name", allow_pickle=True).revision == COMMIT


def test_a_repository_without_config(hub, saved):
    (saved / "config.json").unlink()
    hub.put("org/name", saved)
    assert "no config.json" in refusal("org/name").message


def test_one_gguf_file_of_many(hub, saved, tmp_path, empty_cache):
    from tests.models.test_gguf import write_gguf

    write_gguf(saved / "x.gguf")
    hub.put("org/name", saved)
    hub.repos["org/name"]["q/y.gguf"] = hub.repos["org/name"]["x.gguf"]
    assert load_subject("org/name:q/y.gguf").name == "y"
    assert hub.fetched() == {"y.gguf"}
    assert "no file z.gguf" in refusal("org/name:z.gguf").message


def test_a_hub_that_is_broken(hub, saved):
    hub.status["org/name"] = (500, {}, b"\x1b[31moops\nsecond line")
    assert "\x1b" not in refusal("org/name").message


def test_local_models_ask_no_hub(hub, saved, tmp_path, empty_cache):
    from tests.models.test_gguf import write_gguf

    write_gguf(tmp_path / "x.gguf")
    for spec in (None, str(saved), str(tmp_path / "x.gguf")):
        load_subject(spec)
    assert hub.asked == []
