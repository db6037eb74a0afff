"""Which token a person means."""

from __future__ import annotations

from llmscope.errors import ScopeError
from llmscope.models.tokens import Tokens
from llmscope.text import display_text


def target_id(wanted: str, tokens: Tokens | None, vocabulary: int) -> int:
    """The id of a token: `id:464`, or the token's raw text with its leading space.

    Raises:
        ScopeError: it is no single token of the model.
    """
    if wanted.startswith("id:"):
        number = wanted.removeprefix("id:")
        if not number.isdecimal() or int(number) >= vocabulary:
            raise ScopeError(
                f"{display_text(number)} is no id of the vocabulary", f"id:0 to id:{vocabulary - 1}"
            )
        return int(number)
    if tokens is None:
        raise ScopeError("this checkpoint has no tokenizer", "id:NUMBER")
    encoded = tokens.encode(wanted, special_tokens=False)
    single = encoded.ids[0] if len(encoded) == 1 else None
    if single is not None and encoded.pieces == (wanted,):
        return single
    # Some tokenizers put a space before a text of their own accord: look the token up as it is.
    ids = range(min(vocabulary, len(tokens.tokenizer)))
    exact = next((token for token in ids if tokens.piece(token) == wanted), single)
    if exact is None:
        shown = " ".join(display_text(piece, whitespace=True) for piece in encoded.pieces)
        raise ScopeError(
            f"{display_text(wanted)!r} is not one token but {len(encoded)}: {shown}".rstrip(": "),
            "one token, with its leading space if it has one, or id:NUMBER",
        )
    return exact
