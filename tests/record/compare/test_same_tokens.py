"""The check that two models read the same tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llmscope.models.loaded_model import LoadedModel
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.record.compare.same_tokens import shared_logits, token_difference

WORDS = ["<unk>", "the", "cat", "sat", "x", ",", "."]


def model(
    words: list[str] | None, *, split: Any = None, size: int = 8, backend: str = ""
) -> LoadedModel:
    tokens = None
    if words is not None:
        vocabulary = {word: at for at, word in enumerate(words)}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = split or pre_tokenizers.Whitespace()
        tokens = Tokens(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))
    anatomy = SimpleNamespace(vocabulary=size)
    return cast("LoadedModel", SimpleNamespace(tokens=tokens, anatomy=anatomy, backend=backend))


def test_equal_vocabularies_read_the_same_tokens() -> None:
    assert token_difference(model(WORDS), model(WORDS)) == ""


def test_a_longer_vocabulary_with_the_same_beginning_reads_the_same() -> None:
    assert token_difference(model(WORDS), model([*WORDS, "<pad>"])) == ""


def test_the_first_token_that_differs_is_named() -> None:
    other = [*WORDS[:2], "dog", *WORDS[3:]]
    assert token_difference(model(WORDS), model(other)) == "token 2 is ‹cat› in A and ‹dog› in B"


def test_an_escape_in_a_token_reaches_no_terminal() -> None:
    said = token_difference(model(WORDS), model([*WORDS[:2], "\x1b[31m", *WORDS[3:]]))
    assert "\x1b" not in said


def test_texts_that_are_cut_in_different_ways_are_named() -> None:
    said = token_difference(model(WORDS), model(WORDS, split=pre_tokenizers.WhitespaceSplit()))
    assert "begins to differ at token" in said
    assert said.endswith("in B")


def test_another_engine_may_cut_texts_differently_but_not_number_them_so() -> None:
    cut = model(WORDS, split=pre_tokenizers.WhitespaceSplit(), backend="llama.cpp, F32")
    assert token_difference(model(WORDS), cut) == ""
    swapped = [*WORDS[:-2], WORDS[-1], WORDS[-2]]
    numbered = model(swapped, backend="llama.cpp, F32")
    assert "in A" in token_difference(model(WORDS), numbered)


def test_a_model_without_a_tokenizer_reads_the_ids_of_the_other() -> None:
    assert token_difference(model(WORDS), model(None)) == ""
    assert token_difference(model(None), model(None)) == ""
    assert "8 and 9 tokens" in token_difference(model(None), model(None, size=9))


def test_shared_logits_are_those_of_the_ids_that_both_have() -> None:
    ours, theirs = torch.randn(3, 7), torch.randn(3, 9)
    a, b = shared_logits(ours, theirs)
    assert torch.equal(a, ours)
    assert torch.equal(b, theirs[:, :7])
