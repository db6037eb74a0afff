"""Tokenizers that make a text grow without bounds, or that read what never ends."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers

from llmscope.models.load import load_subject
from llmscope.models.tokenizer_file import check_tokenizer, growth
from tests.hostile.forks import limited
from tests.models.checkpoints import save_model


def tokenizer(normalizer=None, decoder=None):
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<unk>": 2}, unk_token="<unk>"))
    made.add_tokens(["ab"])
    if normalizer is not None:
        made.normalizer = normalizer
    if decoder is not None:
        made.decoder = decoder
    return made


def chain(count, old="a", new="aaaaaaaaaa"):
    return normalizers.Sequence([normalizers.Replace(old, new)] * count)


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": chain(12)},
        {"normalizer": normalizers.Sequence([chain(4), chain(4), chain(4)])},
        {"normalizer": chain(30, "", "aaa")},
        {"decoder": decoders.Sequence([decoders.Replace("a", "a" * 100)] * 5)},
    ],
    ids=["chain", "nested", "empty", "decoder"],
)
def test_replacements_that_pass_all_memory(tmp_path, parts):
    save_model(tmp_path)
    base = json.loads(tokenizer().to_str())
    base |= {name: json.loads(one.__getstate__()) for name, one in parts.items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(base))
    outcome = limited(lambda: load_subject(str(tmp_path)).notices, memory=1 << 29)
    assert not outcome.killed
    assert "thousands of times longer" in outcome.value[0]


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        chain(20, "``", '"'),
        None,
    ],
)
def test_ordinary_normalizers_are_taken(tmp_path, normalizer):
    (tmp_path / "tokenizer.json").write_text(tokenizer(normalizer).to_str())
    check_tokenizer(tmp_path)


def test_growth_is_the_product_of_what_a_letter_becomes():
    made = tokenizer(chain(3, "a", "aaaaa"))
    assert growth(json.loads(made.normalizer.__getstate__())) == 125
    assert len(made.normalizer.normalize_str("aa")) == 250


def test_a_large_vocabulary_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.setattr("llmscope.models.tokenizer_file.WHOLE_BYTES", 1000)
    made = json.loads(tokenizer().to_str())
    made["normalizer"] = json.loads(chain(12).__getstate__())
    made["model"]["vocab"] |= {f"token {at}": at for at in range(3, 300)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="longer"):
        check_tokenizer(tmp_path)


def test_a_vocabulary_that_is_a_device(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"vocab_file": "/dev/zero"}))
    with pytest.raises(ValueError, match="no regular file"):
        check_tokenizer(tmp_path)
