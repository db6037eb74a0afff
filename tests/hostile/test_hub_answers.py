"""A hub that answers with paths, or with more than it announced: nothing lands outside."""

import json

import pytest
from huggingface_hub import constants

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from llmscope.models.sources import hub_answers, hub_files, hub_retry
from llmscope.models.sources.hub_answers import is_etag
from tests.families import small_model
from tests.models.hub_server import COMMIT, Fault, serving, speak_to


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "deep" / "er" / "hub"))
    monkeypatch.setattr(hub_retry, "WAITS", (0.01,))
    with serving() as hub:
        speak_to(monkeypatch, hub.endpoint)
        yield hub


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    small_model("llama").save_pretrained(folder)
    return folder


def refusal(spec="org/name"):
    with pytest.raises(ScopeError) as caught:
        load_model(spec)
    text = caught.value.message
    assert "\n" not in text
    assert len(text) < 500
    return text


def answer(hub, **entries):
    told = {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]} | entries
    hub.status["org/name"] = (200, {}, json.dumps(told).encode())


@pytest.mark.parametrize(
    "sha",
    [
        "../../../../outside",
        "/tmp/outside",
        COMMIT[:-1],
        COMMIT + "\n",
        COMMIT.upper() + "G",
        7,
        [],
    ],
)
def test_a_commit_that_is_none(hub, saved, tmp_path, sha):
    hub.put("org/name", saved)
    answer(hub, sha=sha)
    assert "what answers is not the hub" in refusal()
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink() or path.is_file()]


@pytest.mark.parametrize(
    "entries",
    [{"siblings": 7}, {"siblings": {"a": 1}}, {"siblings": [7, {"rfilename": 8}, {}]}],
)
def test_files_that_are_none(hub, entries):
    answer(hub, **entries)
    refusal()


@pytest.mark.parametrize("body", [b"[]", b"null", b"[" * 10**6, b"\xff", b'{"sha": 1e999}'])
def test_an_answer_that_is_no_repository(hub, body):
    hub.status["org/name"] = (200, {}, body)
    refusal()


@pytest.mark.parametrize("status", [200, 404, 429, 500])
def test_an_answer_without_end_is_read_in_part(hub, status, monkeypatch):
    monkeypatch.setattr(hub_answers, "ANSWER_BYTES", 1 << 18)
    hub.status["org/name"] = (status, {}, b"x" * (64 << 20))
    refusal()
    assert all(asked.sent < 32 << 20 for asked in hub.asked)


def test_a_compressed_answer_is_not_unpacked(hub):
    hub.status["org/name"] = (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + bytes(1000))
    assert "what answers is not the hub" in refusal()


def test_redirects_without_end(hub):
    hub.status["org/name"] = (302, {"Location": "/api/models/org/name"}, b"x" * (64 << 20))
    refusal()
    assert len(hub.asked) <= 2 * hub_answers.REDIRECTS
    assert all(asked.sent < 32 << 20 for asked in hub.asked)


@pytest.mark.parametrize(
    "name",
    [
        "../a.json",
        "/a.json",
        "..",
        "a\\..\\b.json",
        "a//b.json",
        "C:a.json",
        "a\n.json",
        "x" * 2000,
    ],
)
def test_files_that_lead_out_are_left_out(hub, saved, tmp_path, name):
    hub.put("org/name", saved)
    names = [{"rfilename": one} for one in (*hub.repos["org/name"], name)]
    answer(hub, siblings=names)
    assert load_model("org/name").name == "name"
    assert name.rsplit("/")[-1] not in hub.fetched()


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_body_beyond_its_size_is_read_in_part(hub, saved, suffix):
    hub.put("org/name", saved)
    hub.faults.append(Fault(suffix, body=b"{}" + b" " * (64 << 20)))
    assert "were announced" in refusal()
    assert all(asked.sent < 32 << 20 for asked in hub.asked)
    assert not any(path.stat().st_size > 32 << 20 for path in _cached(hub_files.Repository))


def _cached(kind):
    home = kind("org/name", COMMIT)._home
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("etag", ["..", ".", "", "../x", "a/b", "a" * 300, "a\\b", "-x", "a\n"])
def test_etags_that_are_paths(etag):
    assert not is_etag(etag)


def test_etags_of_hubs():
    assert is_etag("0" * 40)
    assert is_etag("f" * 64)
    assert is_etag("5d8c72a5-1b:gzip")


def test_a_revision_that_is_a_path(hub, saved, tmp_path):
    hub.put("org/name", saved)
    with pytest.raises(ScopeError, match="no model that llmscope can name"):
        load_model("org/name@a/../../../../../outside")
    assert not (tmp_path / "outside").exists()


def test_a_ref_in_the_cache_that_is_a_path(hub, saved, monkeypatch):
    hub.put("org/name", saved)
    load_model("org/name")
    home = hub_files.Repository("org/name", COMMIT)._home
    outside = home.parent / "elsewhere"
    (home / "snapshots" / COMMIT).rename(outside)
    (home / "refs" / "main").write_text("../../elsewhere")
    hub.status["org/name"] = (500, {}, b"")
    refusal()
