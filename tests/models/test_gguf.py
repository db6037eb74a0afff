"""GGUF files, on a small one that is written here."""

import os

import numpy as np
import pytest
import torch

from llmscope.errors import ScopeError
from llmscope.models.load import load_subject
from llmscope.models.sources import gguf as source
from tests.families import small_model
from tests.models.checkpoints import Heard

WORDS = ["<s>", "</s>", "<unk>", *"abcdefghijĠ", "Ġa", "Ġb", "ab"]


def write_gguf(path, seed=0):
    """A small Llama as GGUF; gives back the model that it was made of."""
    import gguf

    model = small_model("llama", seed=seed, vocab_size=len(WORDS), tie_word_embeddings=False)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 2] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["Ġ a", "Ġ b", "a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_named(name), np.ascontiguousarray(_ordered(name, tensor, config)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _named(name):
    for old, new in (
        ("model.embed_tokens", "token_embd"),
        ("model.layers.", "blk."),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(old, new)
    return name


def _ordered(name, tensor, config):
    """GGUF keeps the halves of each rotated pair side by side in queries and keys."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            half = tensor.shape[0] // count // 2
            split = tensor.reshape(count, 2, half, tensor.shape[1])
            return split.swapaxes(1, 2).reshape(tensor.shape).numpy()
    return tensor.numpy()


@pytest.fixture
def file(tmp_path, empty_cache):
    return tmp_path / "small-F32.gguf"


def test_it_converts_once_to_the_same_numbers(file, empty_cache, monkeypatch, capfd):
    model = write_gguf(file)
    capfd.readouterr()
    heard = Heard()
    subject = load_subject(str(file), progress=heard)
    assert capfd.readouterr() == ("", "")
    assert (subject.name, len(subject.revision)) == ("small-F32", 64)
    ids = torch.tensor([[3, 4, 5, 14, 15, 16]])
    with torch.no_grad():
        difference = (subject.model(ids).logits - model(ids).logits).abs().max()
    assert difference < 1e-4
    assert subject.tokens.encode("ab b").pieces == ("ab", " b")
    assert [stage.split()[0] for stage in heard.stages] == ["reading", "converting", "loading"]
    size = file.stat().st_size
    assert heard.last("reading") == (size, size)
    assert heard.last("converting")[1] == size

    def not_again(*_):
        raise AssertionError("read or converted a second time")

    monkeypatch.setattr(source, "_read", not_again)
    monkeypatch.setattr(source, "_convert", not_again)
    again = load_subject(str(file))
    assert torch.equal(again.model.lm_head.weight, subject.model.lm_head.weight)


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

    def interrupted(path, target, progress):
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        source.converted(file, None)
    assert list((empty_cache / "gguf").iterdir()) == []
    monkeypatch.setattr(source, "_convert", convert)
    assert load_subject(str(file)).tokens is not None


@pytest.mark.parametrize("content", [b"", b"nope", b"GGUF", b"GGUF" + b"\x03\x00\x00\x00" * 9])
def test_what_is_no_gguf_is_one_line(file, content):
    file.write_bytes(content)
    with pytest.raises(ScopeError, match=r"small-F32\.gguf") as caught:
        load_subject(str(file))
    assert "\n" not in caught.value.message


def test_a_truncated_file_leaves_nothing_behind(file, empty_cache):
    write_gguf(file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ScopeError, match="cannot read"):
        load_subject(str(file))
    assert list((empty_cache / "gguf").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache(file, empty_cache):
    write_gguf(file)
    empty_cache.mkdir(mode=0o500)
    with pytest.raises(ScopeError, match="cannot be written"):
        load_subject(str(file))


def test_a_cache_that_is_a_file(file, empty_cache):
    write_gguf(file)
    empty_cache.write_text("")
    with pytest.raises(ScopeError, match="cannot be written") as caught:
        load_subject(str(file))
    assert "LLMSCOPE_CACHE" in caught.value.hint
