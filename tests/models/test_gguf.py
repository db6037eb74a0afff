"""GGUF files, on a small one that is written here."""

import os

import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.files import digest
from llmscope.models.files.cache import converted_folder
from llmscope.models.loading.load import load_model
from llmscope.models.sources import gguf as source
from tests.models import ggufs
from tests.models.checkpoints import Heard


def write_gguf(path, seed=0):
    """A small Llama as GGUF; gives back the model that it was made of."""
    model = ggufs.made("llama", seed)
    ggufs.write(path, "llama", model)
    return model


@pytest.fixture
def file(tmp_path, empty_cache):
    return tmp_path / "small-F32.gguf"


def test_it_converts_once_to_the_same_numbers(file, empty_cache, monkeypatch, capfd):
    module = write_gguf(file)
    capfd.readouterr()
    heard = Heard()
    model = load_model(str(file), progress=heard)
    assert capfd.readouterr() == ("", "")
    assert (model.name, len(model.revision)) == ("small-F32", 64)
    ids = torch.tensor([[3, 4, 5, 14, 15, 16]])
    with torch.no_grad():
        difference = (model.module(ids).logits - module(ids).logits).abs().max()
    assert difference < 1e-4
    assert model.tokens.encode("ab b").pieces == ("ab", " b")
    assert heard.tasks == [
        *("reading small-F32.gguf", "converting small-F32.gguf"),
        *("reading the weights", "reading the tokenizer"),
    ]
    size = file.stat().st_size
    assert heard.last("reading small") == (size, size)
    assert heard.last("converting")[1] == size

    def not_again(*_):
        raise AssertionError("read or converted a second time")

    monkeypatch.setattr(digest, "_read", not_again)
    monkeypatch.setattr(source, "_convert", not_again)
    again = load_model(str(file))
    assert torch.equal(again.module.lm_head.weight, model.module.lm_head.weight)


def test_the_cache_goes_by_content(file, empty_cache, tmp_path):
    write_gguf(file)
    first = source.converted(file, None)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(file.read_bytes())
    assert source.converted(copy, None).folder == first.folder
    write_gguf(file, seed=1)
    os.utime(file, ns=(1, 1))
    assert source.converted(file, None).folder != first.folder


def test_a_broken_memory_of_digests_is_no_harm(file, empty_cache):
    write_gguf(file)
    first = source.converted(file, None)
    for memo in (empty_cache / "digests").iterdir():
        memo.write_text("[")
    assert source.converted(file, None) == first


def test_a_half_written_conversion_is_never_used(file, empty_cache, monkeypatch):
    write_gguf(file)
    convert = source._convert

    def interrupted(path, heads, target, progress):
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        source.converted(file, None)
    assert list(converted_folder().iterdir()) == []
    monkeypatch.setattr(source, "_convert", convert)
    assert load_model(str(file)).tokens is not None


@pytest.mark.parametrize("content", [b"", b"nope", b"GGUF", b"GGUF" + b"\x03\x00\x00\x00" * 9])
def test_what_is_no_gguf_is_one_line(file, content):
    file.write_bytes(content)
    with pytest.raises(ScopeError, match=r"small-F32\.gguf") as caught:
        load_model(str(file))
    assert "\n" not in caught.value.message


def test_a_truncated_file_leaves_nothing_behind(file, empty_cache):
    write_gguf(file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ScopeError, match=r"small-F32\.gguf is damaged") as caught:
        load_model(str(file))
    assert "\n" not in caught.value.message
    assert not converted_folder().exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache(file, empty_cache):
    write_gguf(file)
    empty_cache.mkdir(mode=0o500)
    with pytest.raises(ScopeError, match="cannot be written"):
        load_model(str(file))


def test_a_cache_that_is_a_file(file, empty_cache):
    write_gguf(file)
    empty_cache.write_text("")
    with pytest.raises(ScopeError, match="cannot be written") as caught:
        load_model(str(file))
    assert "LLMSCOPE_CACHE" in caught.value.hint
