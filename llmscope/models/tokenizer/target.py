"""Parse the token or tokens that the user names."""

from __future__ import annotations

from dataclasses import dataclass

from llmscope.errors import ScopeError, WrongUseError
from llmscope.models.tokenizer.tokens import Tokens
from llmscope.support.arguments import LONGEST
from llmscope.support.text import display_text


def target_id(wanted: str, tokens: Tokens | None, vocabulary: int) -> int:
    """Return the id of a token given as `id:464` or as its raw text with its leading space.

    Raises:
        ScopeError: the text is not a single token of the model.
    """
    if wanted.startswith("id:"):
        number = wanted.removeprefix("id:")
        short = number.isdecimal() and len(number) <= len(str(vocabulary))
        if not short or int(number) >= vocabulary:
            raise WrongUseError(
                f"{display_text(number[:LONGEST])} is no id of the vocabulary",
                f"id:0 to id:{vocabulary - 1}",
            )
        return int(number)
    if tokens is None:
        raise ScopeError("this checkpoint has no tokenizer", "id:NUMBER")
    encoded = tokens.encode(wanted, special_tokens=False)
    unknown = getattr(tokens.tokenizer, "unk_token_id", None)
    single = encoded.ids[0] if len(encoded) == 1 and encoded.ids[0] != unknown else None
    if single is not None and encoded.pieces == (wanted,):
        return single
    # Some tokenizers add a space before a text: look the token up by its raw text.
    ids = range(min(vocabulary, len(tokens.tokenizer)))
    exact = next((token for token in ids if tokens.piece(token) == wanted), single)
    if exact is None and encoded.ids == (unknown,):
        raise WrongUseError(
            f"{display_text(wanted)!r} is not in the vocabulary: the tokenizer reads it as unknown",
            "one token, with its leading space if it has one, or id:NUMBER",
        )
    if exact is None:
        pieces = " ".join(display_text(piece, whitespace=True) for piece in encoded.pieces)
        raise WrongUseError(
            f"{display_text(wanted)!r} is not one token but {len(encoded)}: {pieces}".rstrip(": "),
            "one token, with its leading space if it has one, or id:NUMBER",
        )
    return exact


@dataclass(frozen=True)
class WordList:
    """A list of words as tokens.

    Attributes:
        ids: the first token of each word, each token once.
        notes: for each word of more than one token, the token that represents it.
    """

    ids: tuple[int, ...]
    notes: tuple[str, ...]


def read_words(words: str, tokens: Tokens | None, vocabulary: int) -> WordList:
    """Return the first token of each word, as encoded after a space.

    Args:
        words: words separated by spaces or commas; `id:464` is a token id.
        tokens: the tokenizer; None for a checkpoint without one.
        vocabulary: the size of the vocabulary.

    Raises:
        ScopeError: the list is empty, or a word has no token.
    """
    ids: dict[int, None] = {}
    notes: list[str] = []
    for word in words.replace(",", " ").split():
        if word.startswith("id:"):
            ids[target_id(word, tokens, vocabulary)] = None
            continue
        if tokens is None:
            raise ScopeError("this checkpoint has no tokenizer", "id:NUMBER")
        # If a space is a token of its own, skip it: it does not represent the word.
        encodings = (tokens.encode(text, special_tokens=False) for text in (f" {word}", word))
        tokens_of_each = (zip(encoding.ids, encoding.pieces, strict=True) for encoding in encodings)
        first = next(
            (
                (token, text)
                for pairs in tokens_of_each
                for token, text in pairs
                if not text.isspace()
            ),
            None,
        )
        if first is None:
            raise WrongUseError(f"{display_text(word)!r} has no token in this model", "other words")
        if first[1].strip() != word:
            piece = display_text(first[1], whitespace=True)
            notes.append(f"{display_text(word)} has no token of its own: ‹{piece}› stands for it")
        ids[first[0]] = None
    if not ids:
        raise WrongUseError("there are no words", "words with blanks between: river shore water")
    return WordList(tuple(ids), tuple(notes))
