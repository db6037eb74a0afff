"""Models that Ollama and LM Studio keep: in the list under their names, and opened from there."""

import json
import os

import pytest

import llmscope
from llmscope.errors import ScopeError
from llmscope.models.local_models import local_models
from llmscope.models.sources import ollama
from llmscope.models.sources.ollama import MODEL, ollama_models
from llmscope.models.spec import at_revision, is_gguf, parse
from tests.models.test_gguf import write_gguf

DIGEST = "a" * 64
OTHER = {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'b' * 64}"}


def manifest(*layers):
    return json.dumps({"schemaVersion": 2, "layers": list(layers)})


def layer(digest=f"sha256:{DIGEST}", kind=MODEL):
    return {"mediaType": kind, "digest": digest, "size": 7}


@pytest.fixture
def home(tmp_path, empty_cache, monkeypatch):
    """A home with an empty folder of Ollama's that holds one blob, and no cache of the hub."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    folder = tmp_path / ".ollama" / "models"
    (folder / "blobs").mkdir(parents=True)
    write_gguf(folder / "blobs" / f"sha256-{DIGEST}")
    return tmp_path


def put(home, name, text, folder=".ollama/models"):
    path = home / folder / "manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names():
    return [model.name for model in ollama_models()]


def test_models_of_ollama_have_its_names_and_open(home):
    put(home, "registry.ollama.ai/library/tiny/latest", manifest(OTHER, layer()))
    put(home, "registry.ollama.ai/someone/tiny/1b", manifest(layer()))
    put(home, "hf.co/org/repo/Q4_K_M", manifest(layer()))
    assert names() == ["hf.co/org/repo:Q4_K_M", "tiny:latest", "someone/tiny:1b"]
    blob = home / ".ollama" / "models" / "blobs" / f"sha256-{DIGEST}"
    stored = {model.spec: model for model in local_models().models}
    entry = stored["ollama:tiny:latest"]
    assert (entry.source, entry.path, entry.bytes) == ("ollama", blob, blob.stat().st_size)
    for spec in ("ollama:tiny", "ollama:someone/tiny:1b", "ollama:hf.co/org/repo:Q4_K_M"):
        scope = llmscope.load(spec)
        assert scope.info().name == parse(spec).name
    assert llmscope.load(blob).info().layers == scope.info().layers  # by its path too
    again = {model.spec: model for model in local_models().models}
    assert again["ollama:tiny:latest"].architecture
    assert str(blob) not in again


def test_llama_runs_what_ollama_has(home):
    pytest.importorskip("llama_cpp_py_sync")
    from tests.models import ggufs

    ggufs.write(
        home / ".ollama" / "models" / "blobs" / f"sha256-{DIGEST}", "llama", ggufs.made("llama")
    )
    put(home, "registry.ollama.ai/library/tiny/latest", manifest(layer()))
    scope = llmscope.load("ollama:tiny", backend="llama.cpp")
    assert (scope.info().name, scope.info().dtype) == ("tiny:latest", "llama.cpp, F32")


def test_another_folder_of_ollama(home, monkeypatch):
    put(home, "registry.ollama.ai/library/there/1", manifest(layer()), "elsewhere")
    (home / "elsewhere" / "blobs").mkdir()
    write_gguf(home / "elsewhere" / "blobs" / f"sha256-{DIGEST}")
    assert names() == []
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "elsewhere"))
    assert names() == ["there:1"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "{", '{"layers": 3}', '{"layers": [3, null, "x"]}', '{"layers": []}'),
        manifest(OTHER),
        manifest(layer(), layer("sha256:" + "c" * 64)),
        manifest(layer("sha256:../../../secret")),
        manifest(layer(f"sha256:{DIGEST[:-1]}")),
        manifest(layer(f"sha256:{DIGEST}/../../x")),
        manifest(layer(f"sha256:{DIGEST}\n")),
        manifest(layer("sha256:" + "d" * 64)),  # which is not there
        manifest(layer(7)),
        manifest(layer(kind=[MODEL])),
        "[" * 100_000,
        manifest(layer()) + " " * (1 << 20),
    ],
)
def test_a_hostile_manifest_is_skipped(home, text):
    put(home, "registry.ollama.ai/library/bad/1", text)
    put(home, "registry.ollama.ai/library/good/1", manifest(layer()))
    assert names() == ["good:1"]


def test_no_link_is_followed(home):
    outside = home / "outside"
    outside.mkdir()
    put(home, "library/x/1", manifest(layer()), "outside")
    root = home / ".ollama" / "models"
    good = put(home, "registry.ollama.ai/library/good/1", manifest(layer()))
    (root / "manifests" / "registry.ollama.ai" / "evil").symlink_to(outside / "manifests")
    good.with_name("2").symlink_to(good)
    (root / "blobs" / f"sha256-{'e' * 64}").symlink_to(root / "blobs" / f"sha256-{DIGEST}")
    good.with_name("3").write_text(manifest(layer("sha256:" + "e" * 64)))
    os.mkfifo(good.with_name("4"))
    good.with_name("5").mkdir()
    put(home, "registry.ollama.ai/library/deep/1/2/3", manifest(layer()))
    put(home, "registry.ollama.ai/library/we ird/1", manifest(layer()))
    assert names() == ["good:1"]


def test_no_more_manifests_than_are_sensible(home, monkeypatch):
    for tag in "abc":
        put(home, f"registry.ollama.ai/library/x/{tag}", manifest(layer()))
    monkeypatch.setattr(ollama, "MANIFESTS", 2)
    assert names() == ["x:a", "x:b"]


def test_a_model_that_ollama_does_not_have(home):
    put(home, "registry.ollama.ai/library/tiny/1b", manifest(layer()))
    with pytest.raises(ScopeError, match="Ollama has no tiny:latest") as caught:
        llmscope.load("ollama:tiny")
    assert caught.value.hint == "ollama:tiny:1b"


@pytest.mark.fast
def test_specs_of_ollama():
    assert parse("ollama:a/b:c").name == "a/b:c"
    assert parse("ollama:llama3.2").name == "llama3.2:latest"
    assert is_gguf("ollama:x")
    for text in ("ollama:", "ollama:a b", "ollama:a/b/c/d", "ollama:a:b:c"):
        with pytest.raises(ScopeError, match="names no model of Ollama's"):
            parse(text)
    with pytest.raises(ScopeError, match="has no revisions"):
        at_revision("ollama:x", "v1")


def test_files_of_lm_studio_are_listed_by_their_paths(home):
    for folder in (".lmstudio/models/owner/repo", ".cache/lm-studio/models/owner/old"):
        (home / folder).mkdir(parents=True)
    repo = home / ".lmstudio/models/owner/repo"
    write_gguf(repo / "m.Q4.gguf")
    for name in ("mmproj-m.gguf", "m-00001-of-00002.gguf", "readme.md"):
        (repo / name).write_bytes(b"GGUF")
    (repo / "link.gguf").symlink_to(repo / "m.Q4.gguf")
    (home / ".lmstudio/models/link").symlink_to(home / ".lmstudio/models/owner")
    (repo / "a" / "b").mkdir(parents=True)
    write_gguf(repo / "a" / "b" / "deep.gguf")
    write_gguf(home / ".cache/lm-studio/models/owner/old/o.gguf")
    listed = [model for model in local_models().models if model.notes == ("in LM Studio",)]
    assert [model.path.name for model in listed] == ["m.Q4.gguf", "o.gguf"]
    assert llmscope.load(listed[0].spec).info().name == "m.Q4"
    assert listed[0].source == "gguf"
