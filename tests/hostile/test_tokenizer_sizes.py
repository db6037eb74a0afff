"""Tokenizers that make a text grow without bounds, or that read what never ends."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers

from llmscope.errors import ScopeError
from llmscope.models.files.model_files import check_tokenizer_paths
from llmscope.models.loading.load import load_model
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


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"normalizer": chain(12)}, id="chain"),
        pytest.param(
            {"normalizer": normalizers.Sequence([chain(4), chain(4), chain(4)])},
            id="nested",
            marks=pytest.mark.slow,
        ),
        pytest.param({"normalizer": chain(30, "", "aaa")}, id="empty", marks=pytest.mark.slow),
        pytest.param(
            {"decoder": decoders.Sequence([decoders.Replace("a", "a" * 100)] * 5)}, id="decoder"
        ),
    ],
)
def test_replacements_that_pass_all_memory(tmp_path, parts):
    save_model(tmp_path)
    base = json.loads(tokenizer().to_str())
    base |= {name: json.loads(one.__getstate__()) for name, one in parts.items()}
    (tmp_path / "tokenizer.json").write_text(json.dumps(base))
    outcome = limited(lambda: said_by(str(tmp_path)), memory=1 << 29)
    assert not outcome.killed
    assert "memory" in outcome.value
    assert "\n" not in outcome.value


def test_more_values_than_a_vocabulary_has(tmp_path, monkeypatch):
    save_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer().to_str())
    assert load_model(str(tmp_path)).tokens is not None
    monkeypatch.setattr("llmscope.models.tokenizer.worker.VALUES", 10)
    assert "holds more than 10 values" in said_by(str(tmp_path))


def said_by(folder):
    """What is said of a tokenizer when it is loaded, or else when it writes a token's text."""
    model = load_model(folder)
    if model.tokens is None:
        return model.notices[0]
    with pytest.raises(ScopeError) as caught:
        model.tokens.decode([0])
    return str(caught.value)


def test_a_vocabulary_that_is_a_device(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"vocab_file": "/dev/zero"}))
    with pytest.raises(ValueError, match="no regular file"):
        check_tokenizer_paths(tmp_path)
