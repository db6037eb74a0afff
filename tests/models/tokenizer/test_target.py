"""A target is one token of the model, and never its unknown token by mistake."""

import pytest

import llmscope
from llmscope.errors import ScopeError


@pytest.fixture(scope="module")
def town():
    return llmscope.load("builtin:town")


@pytest.mark.parametrize("word", ["zebra", "calves", " zebra"])
def test_a_word_that_the_tokenizer_does_not_know_is_refused(town, word):
    with pytest.raises(ScopeError, match=f"'{word}' is not in the vocabulary"):
        town.token(word)


def test_a_word_and_the_unknown_token_itself_are_found_by_their_names(town):
    unknown = town.tokenizer.unk_token_id
    calf = town.token(" calf")
    assert town.loaded_model.tokens.piece(calf) == " calf"
    assert town.token("calf") == calf
    assert town.token(f"id:{unknown}") == unknown
