"""A hub that refuses, fails or sends rubbish: one clear line that helps, never a wrong number."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from llmscope.models.sources import hub_files, hub_retry
from tests.families import small_model
from tests.models.checkpoints import Heard
from tests.models.hub_server import COMMIT, Fault

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"
PAGE = b"<!DOCTYPE html><title>Sign in</title>"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    small_model("llama").save_pretrained(folder, max_shard_size="80KB")
    return folder


@pytest.fixture
def naps(monkeypatch):
    """The seconds that would have been slept."""
    slept = []
    monkeypatch.setattr(hub_retry, "WAITS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(
        hub_retry.HubConnection, "pause", lambda line, seconds, note: slept.append(seconds)
    )
    return slept


def refusal(spec="org/name", **options):
    with pytest.raises(ScopeError) as caught:
        load_model(spec, **options)
    found = caught.value
    assert found.hint
    assert "\n" not in found.message + found.hint
    assert "\x1b" not in found.message + found.hint
    return found


def large(folder):
    return sorted(folder.glob("*.safetensors"))[1]


class TestRefusals:
    def test_a_token_that_the_hub_does_not_know(self, hub, sharded, monkeypatch):
        said = {"X-Error-Message": "Invalid credentials in Authorization header"}
        hub.status["org/name"] = (401, said, b"{}")
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        found = refusal()
        assert "does not accept the token" in found.message
        assert "hf_wrong" not in found.message + found.hint

    def test_a_branch_that_is_not_there(self, hub, sharded):
        hub.put("org/name", sharded)
        assert "no revision v9" in refusal("org/name@v9").message

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
    @pytest.mark.parametrize("where", ["api", "config.json", ".safetensors"])
    def test_a_failing_hub_is_asked_again_and_then_named(self, hub, sharded, naps, status, where):
        hub.put("org/name", sharded)
        if where == "api":
            hub.status["org/name"] = (status, {}, b"\x1b[31moops\nsecond line")
        else:
            hub.refuse("org/name", status, {}, where)
        heard = Heard()
        assert f"(status {status})" in refusal(progress=heard).message
        # Several shards may be waited for at once, none longer than this.
        assert {1.0, 2.0, 4.0} >= set(naps)
        assert len(naps) >= 3

    def test_trouble_that_passes(self, hub, sharded, naps):
        hub.put("org/name", sharded)
        hub.status["org/name"] = (503, {}, b"")
        answer, answers = hub.answer, []

        def recovering(path):
            if "/api/models" in path:
                answers.append(path)
                if len(answers) == 3:
                    hub.status.clear()
            return answer(path)

        hub.answer = recovering
        assert load_model("org/name").revision == COMMIT
        assert naps == [1.0, 2.0]

    def test_a_hub_that_asks_to_wait_is_obeyed_for_a_minute(self, hub, naps):
        hub.status["org/name"] = (429, {"Retry-After": "25"}, b"")
        heard = Heard()
        assert "wait 25 s (status 429)" in refusal(progress=heard).message
        assert naps == [25.0, 25.0]

    def test_a_hub_that_asks_for_no_wait_is_not_asked_without_end(self, hub, naps):
        hub.status["org/name"] = (429, {"Retry-After": "0"}, b"")
        assert "(status 429)" in refusal().message
        assert naps == [1.0, 2.0, 4.0]

    @pytest.mark.parametrize(
        "headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=3600'}]
    )
    def test_a_hub_that_asks_for_an_hour_is_not_waited_for(self, hub, naps, headers):
        hub.status["org/name"] = (429, headers, b"")
        assert "wait 3600 s (status 429)" in refusal().message
        assert naps == []

    def test_who_watches_sees_what_is_waited_for(self, hub, monkeypatch):
        hub.status["org/name"] = (429, {"Retry-After": "1"}, b"")
        monkeypatch.setattr(hub_retry, "LONGEST", 1.0)
        heard = Heard()
        refusal(progress=heard)
        assert "asking the hub for org/name (the hub asks to wait, 1 s)" in heard.stages

    def test_a_hub_that_accepts_and_says_nothing(self, hub, sharded, monkeypatch):
        hub.put("org/name", sharded)
        hub.faults = [Fault("org/name", pace=1)]
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
        assert "cannot be reached" in refusal().message

    def test_a_login_page_in_place_of_the_hub(self, hub):
        hub.status["org/name"] = (200, {}, PAGE)
        found = refusal()
        assert "what answers is not the hub" in found.message
        assert "HF_ENDPOINT" in found.hint

    def test_a_repository_of_gguf_files_names_one(self, hub, tmp_path):
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "tiny-q4.gguf").write_bytes(b"GGUF")
        hub.put("org/name", tmp_path / "files")
        assert refusal().hint == "org/name:tiny-q4.gguf"

    def test_a_disk_without_room(self, hub, sharded, monkeypatch):
        hub.put("org/name", sharded)
        monkeypatch.setattr(
            hub_files.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000)
        )
        found = refusal()
        assert "needs" in found.message
        assert "HF_HOME" in found.hint
        assert hub.fetched() == {"config.json"}

    def test_a_disk_that_fills_up_meanwhile(self, hub, sharded, monkeypatch):
        hub.put("org/name", sharded)

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(hub_files, "_append", full)
        assert "no room for org/name" in refusal().message

    def test_a_cache_that_nobody_may_write(self, hub, sharded, monkeypatch, tmp_path):
        hub.put("org/name", sharded)
        (tmp_path / "file").write_text("")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
        found = refusal()
        assert "cannot be kept in the hub's cache" in found.message
        assert "HF_HOME" in found.hint


def garbage(content):
    return b"\xff" * len(content)


def flipped(content):
    """A tensor's last byte is another: only a checksum can tell."""
    return content[:-1] + bytes([content[-1] ^ 1])


class TestDamageOnTheWay:
    @pytest.mark.parametrize("befall", [garbage, flipped, lambda content: content + b"x"])
    def test_wrong_bytes_never_become_a_model(self, hub, sharded, tmp_path, befall):
        hub.put("org/name", sharded)
        shard = large(sharded)
        hub.faults = [Fault(shard.name, body=befall(shard.read_bytes()))]
        assert f"the hub sent {shard.name} of org/name damaged" in refusal().message
        hub.faults.clear()
        assert load_model("org/name").revision == COMMIT

    def test_a_body_that_ends_too_soon_though_its_length_is_right(self, hub, sharded):
        hub.put("org/name", sharded)
        shard = large(sharded)
        hub.faults = [Fault(shard.name, body=shard.read_bytes()[:5000])]
        assert "org/name" in refusal().message
        hub.faults.clear()
        assert load_model("org/name").revision == COMMIT

    @pytest.mark.parametrize(
        ("name", "body", "said"),
        [
            ("config.json", PAGE, "a web page"),
            ("config.json", b"{", "no JSON"),
            ("model.safetensors.index.json", b"[", "no JSON"),
            ("shard", POINTER, "a Git LFS pointer"),
            ("shard", PAGE, "a web page"),
            ("shard", b"\xff" * 100, "its header does not fit"),
        ],
    )
    def test_a_repository_that_holds_rubbish(self, hub, sharded, name, body, said):
        """Checksum and length are right: it was put there so."""
        hub.put("org/name", sharded)
        name = large(sharded).name if name == "shard" else name
        hub.repos["org/name"][name] = body
        found = refusal()
        assert said in found.message
        assert name in found.message


class TestDamageInTheCache:
    @pytest.mark.parametrize(
        ("name", "befall", "said"),
        [
            ("config.json", lambda _: PAGE, "a web page"),
            ("shard", lambda _: POINTER, "a Git LFS pointer"),
            ("shard", garbage, "its header does not fit"),
            ("shard", lambda content: content[:5000], "its header speaks of"),
            ("shard", lambda c: c[:8] + b"\xff" * (len(c) - 8), "its header cannot be read"),
            ("shard", lambda _: b"", "its header"),
        ],
    )
    def test_the_file_to_delete_is_named(self, hub, sharded, tmp_path, name, befall, said):
        hub.put("org/name", sharded)
        load_model("org/name")
        name = large(sharded).name if name == "shard" else name
        snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT
        blob = (snapshot / name).resolve()
        blob.write_bytes(befall(blob.read_bytes()))
        found = refusal()
        assert said in found.message
        named = Path(found.hint.split()[1].rstrip(","))
        assert named == blob
        named.unlink()
        assert load_model("org/name").revision == COMMIT

    def test_what_safetensors_itself_makes_is_sound(self, sharded):
        from llmscope.models.sources.hub_validate import flaw

        for path in sharded.iterdir():
            assert flaw(path, path.name) is None
        assert json.loads((sharded / "model.safetensors.index.json").read_text())
