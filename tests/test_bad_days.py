"""Bad days, met by the real commands: one clear line, nothing half-made, never a wrong number."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import llmscope
from llmscope.lenses import lens, names
from llmscope.models.files.cache import converted_folder
from tests.cli.running import failure, fresh, run
from tests.families import small_model
from tests.models.hub_server import Handler, Hub, speak_to

BUILTIN = Path(llmscope.__file__).parent / "builtin" / "sort"
pytestmark = pytest.mark.slow

LOOK = ("--prompt", "cat, dog", "--lens", "attention", "--lens", "mlp")


@pytest.fixture
def hub():
    """A hub on this machine, and the environment that leads to it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.hub.environment = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    yield server.hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def model(tmp_path):
    """A function: a folder with a small Llama that knows A, B and C, after something befell it."""

    def make(befall):
        model = small_model("llama", tie_word_embeddings=False)
        with torch.no_grad():
            befall(model)
        model.save_pretrained(tmp_path / "model")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BUILTIN / name, tmp_path / "model")
        return tmp_path / "model"

    return make


class TestTheHub:
    """Each kind of answer meets a process of its own once, and its other status this one."""

    ASK = ("snapshot", "org/name", "--lens", "tokens", "--ids", "1,2")

    def line(self, hub, monkeypatch, *, alone):
        if not alone:
            speak_to(monkeypatch, hub.environment["HF_ENDPOINT"])
            (line,) = failure(*self.ASK).splitlines()
            return line
        result = fresh(*self.ASK, **hub.environment)
        assert (result.returncode, result.stdout) == (1, "")
        (line,) = result.stderr.splitlines()
        return line

    @pytest.mark.parametrize(("status", "alone"), [(401, True), (404, False)])
    def test_a_repository_that_is_not_there(self, hub, monkeypatch, status, alone):
        hub.status["org/name"] = (status, {"X-Error-Code": "RepoNotFound"}, b"{}")
        line = self.line(hub, monkeypatch, alone=alone)
        assert line.startswith("error: the hub has no model org/name, or it is private")

    @pytest.mark.parametrize(("status", "alone"), [(401, False), (403, True)])
    def test_a_repository_that_is_gated(self, hub, tmp_path, monkeypatch, status, alone):
        small_model("llama").save_pretrained(tmp_path / "saved")
        hub.put("org/name", tmp_path / "saved")
        hub.refuse("org/name", status, {"X-Error-Code": "GatedRepo"})
        line = self.line(hub, monkeypatch, alone=alone)
        assert line.startswith("error: org/name is gated (try: HF_TOKEN")


def slow(value):
    """One of several values, left to the run of what takes long."""
    return pytest.param(value, marks=pytest.mark.slow)


class TestNumbersThatAreNone:
    """NaN and infinity in the weights: every command draws, nothing makes a number of them."""

    ANEW = ((torch.nan, "layer"), (torch.nan, "embedding"))
    """A model whose checks refuse and one whose checks do not: each lens meets them just loaded.
    The others are loaded once for all lenses, and anew for each screen."""

    @pytest.fixture(
        params=[
            *((torch.nan, part) for part in ("layer", "everything")),
            *(slow((torch.nan, part)) for part in ("embedding", "unembedding")),
            *(slow((torch.inf, part)) for part in ("embedding", "layer")),
            *(slow((-torch.inf, part)) for part in ("unembedding", "everything")),
        ],
        ids=str,
    )
    def spoiled(self, request):
        """A value, and the part of the model that it fills."""
        return request.param

    @pytest.fixture
    def folder(self, model, spoiled):
        value, part = spoiled

        def spoil(model):
            parts = {
                "embedding": [model.model.embed_tokens.weight[2]],  # the letter C
                "unembedding": [model.lm_head.weight[7]],
                "layer": [model.model.layers[1].mlp.down_proj.weight],
                "everything": list(model.parameters()),
            }
            for tensor in parts[part]:
                tensor.fill_(value)

        return model(spoil)

    def test_every_lens_and_the_screen_are_drawn(self, folder, spoiled, tmp_path, monkeypatch):
        scope, part = llmscope.load(str(folder)), spoiled[1]
        statuses = {scope.verdicts(name).status for name in ("readout", "writes")}
        assert ("refused" in statuses) == (part != "embedding")  # of it the probe reads nothing
        ask = ("snapshot", folder, "--prompt", "ABCAB")
        figures = []
        with monkeypatch.context() as once:
            if str(spoiled) not in map(str, self.ANEW):  # NaN is not equal to itself
                once.setattr("llmscope.scope.scope.load", lambda *_, **__: scope)
            for name in names():
                for mode in lens(name).modes or ("",):
                    turned = ("--mode", mode) if mode else ()
                    other = ("--versus-prompt", "ABBAB") if lens(name).reads_prompt_b else ()
                    chosen = ("--lens", name, *turned, *other)
                    assert run(*ask, *chosen, "--format", "txt").exit_code == 0
                    result = run(*ask, *chosen, "--format", "json")
                    record = json.loads(result.stdout, parse_constant=pytest.fail)
                    figures += record["figures"]
        following = next(figure for figure in figures if figure["lens"] == "next-token")
        assert following["verdict"]["status"] == "refused"
        assert following["values"] is None
        screen = run(*ask, "--lens", "screen", "--format", "txt")
        assert screen.exit_code == 0, screen.stderr
        assert "Next token · refused" in screen.stdout
        assert "%" not in screen.stdout  # no candidate has a probability
        for suffix in ("svg", "npz"):
            out = tmp_path / f"screen.{suffix}"
            assert run(*ask, "--lens", "screen", "--out", out).exit_code == 0
            assert out.stat().st_size


class TestAFullDisk:
    def test_nothing_is_left_of_a_file_that_did_not_fit(self, tmp_path):
        def little_room():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

        result = subprocess.run(
            [sys.executable, "-m", "llmscope", "snapshot", *LOOK, "--out", "picture.svg"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            preexec_fn=little_room,
            check=False,
        )
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: cannot write picture.svg: ")
        assert os.listdir(tmp_path) == []

    def test_what_was_there_before_stays(self, tmp_path, monkeypatch):
        out = tmp_path / "picture.txt"
        out.write_text("old")
        opened = os.fdopen

        def full(handle, *rest, **more):
            stream = opened(handle, *rest, **more)

            def write(_):
                raise OSError(28, os.strerror(28))

            return _Stand(stream, write)

        monkeypatch.setattr("llmscope.support.atomic_write.os.fdopen", full)
        said = failure("snapshot", *LOOK, "--out", out, "--force")
        assert f"cannot write {out}: No space left on device" in said
        assert os.listdir(tmp_path) == ["picture.txt"]
        assert out.read_text() == "old"

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    @pytest.mark.parametrize(
        "arguments",
        [("snapshot", *LOOK), ("models",), ("lenses",), ("doctor",)],
        ids=lambda a: a[0],
    )
    def test_stdout_that_takes_no_more(self, arguments):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [sys.executable, "-m", "llmscope", *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert result.returncode == 1
        *notes, line = result.stderr.splitlines()
        assert all(note.startswith("note: ") for note in notes)
        assert line.startswith("error: cannot write to stdout: No space left on device")

    def test_a_cache_that_is_full_during_a_conversion(self, tmp_path, monkeypatch, empty_cache):
        from safetensors import SafetensorError
        from transformers import PreTrainedModel

        from tests.models.test_gguf import write_gguf

        def full(model, folder, **_):
            (folder / "model.safetensors").write_text("half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")

        write_gguf(tmp_path / "x.gguf")
        monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
        said = failure("snapshot", tmp_path / "x.gguf", *LOOK)
        assert "cannot be written: I/O error: No space left on device" in said
        assert "LLMSCOPE_CACHE" in said
        assert list(converted_folder().iterdir()) == []


class _Stand:
    """A stream with a write method of its own."""

    def __init__(self, stream, write):
        self.stream, self.write = stream, write

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()


class TestStreams:
    @pytest.mark.parametrize(
        "arguments",
        [("snapshot", *LOOK), ("snapshot", "--lens=screen", "--prompt=cat"), ("lenses",)],
        ids=str,
    )
    def test_a_reader_that_leaves_at_once(self, arguments):
        with subprocess.Popen(
            [sys.executable, "-m", "llmscope", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdout.close()
            said = process.stderr.read()
        assert (process.returncode, said) == (1, b"")

    @pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
    def test_streams_that_were_closed(self, tmp_path, closed):
        def close():
            for number in closed:
                os.close(number)

        result = subprocess.run(
            [sys.executable, "-m", "llmscope", "snapshot", *LOOK, "--out", "x.json"],
            cwd=tmp_path,
            capture_output=True,
            preexec_fn=close,
            check=False,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
        assert len(json.loads((tmp_path / "x.json").read_text())["figures"]) == 2

    @pytest.mark.parametrize("source", ["file", "stdin"])
    def test_a_prompt_that_is_not_utf_8(self, tmp_path, source):
        latin = "CAB\xe4".encode("latin-1")
        (tmp_path / "latin").write_bytes(latin)
        place = "-" if source == "stdin" else tmp_path / "latin"
        said = failure("snapshot", "--lens=tokens", "--prompt-file", place, stdin=latin)
        assert "is not UTF-8 (byte 3)" in said
        assert "convert it" in said
