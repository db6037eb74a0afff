import hashlib
import os

import pytest

from llmscope.errors import ScopeError
from llmscope.models.files.cache import converted_folder
from llmscope.models.files.digest import file_digest, weights_digest
from llmscope.models.info import model_info
from llmscope.models.loading.load import load_model
from llmscope.models.provenance import origin
from llmscope.models.tokenizer.roles import ChatMarks


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_read_again_only_when_it_changed(tmp_path, empty_cache):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    assert file_digest(path) == sha256(b"one")
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))  # the same size and time: what is remembered stands
    assert file_digest(path) == sha256(b"one")
    os.utime(path, ns=(2, 2))
    assert file_digest(path) == sha256(b"two")
    path.write_bytes(b"three")
    assert file_digest(path) == sha256(b"three")


@pytest.mark.parametrize("memo", ["[", "3", "[]", "{}"])
def test_a_broken_memory_is_no_harm(tmp_path, empty_cache, memo):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file_digest(path)
    for file in (empty_cache / "digests").iterdir():
        file.write_text(memo)
    assert file_digest(path) == sha256(b"one")


def test_of_several_files_it_is_that_of_their_digests(tmp_path, empty_cache):
    assert weights_digest(tmp_path) is None
    (tmp_path / "model-2.bin").write_bytes(b"pickled")
    assert weights_digest(tmp_path) == sha256(b"pickled")
    (tmp_path / "b.safetensors").write_bytes(b"B")
    (tmp_path / "a.safetensors").write_bytes(b"A")
    lines = f"{sha256(b'A')}  a.safetensors\n{sha256(b'B')}  b.safetensors\n"
    assert weights_digest(tmp_path) == sha256(lines.encode())


def test_converted_weights_have_the_digest_of_their_file(empty_cache):
    assert weights_digest(converted_folder() / "abc") == "abc"


def test_a_file_that_is_gone_is_one_line(tmp_path, empty_cache):
    with pytest.raises(ScopeError, match="cannot be read"):
        file_digest(tmp_path / "gone")


def test_an_adapter_has_its_own_beside_what_it_was_trained_on(empty_cache):
    base = load_model("builtin:town", adapters=["builtin:town-pirate"])
    on = base.adapted["town-pirate"]
    model, adapter = (folder.name for folder in on.folders)
    assert (model, adapter) == ("town-sft", "town-pirate")
    said = origin(on, model_info(on, base, ChatMarks())).to_dict()["model"]
    assert said["adapter"] == "town-pirate"
    assert said["weights"] == [
        sha256((folder / name).read_bytes())
        for folder, name in zip(
            on.folders, ("model.safetensors", "adapter_model.safetensors"), strict=True
        )
    ]
    (folder,) = base.folders
    own = sha256((folder / "model.safetensors").read_bytes())
    assert folder.name == "town"
    told = origin(base, model_info(base, base, ChatMarks())).to_dict()
    assert told["model"]["weights"] == [own]
