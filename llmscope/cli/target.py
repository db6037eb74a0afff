"""Which tokens a person means by `--target` and `--answer`."""

from __future__ import annotations

from llmscope.cli.options import usage
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
        raise ScopeError("this checkpoint has no tokenizer", "--target id:NUMBER")
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


def answer_ids(answer: str, prompt: str, tokens: Tokens | None) -> tuple[int, ...]:
    """The tokens of an answer as they follow the prompt, no special ones among them.

    Raises:
        BadParameter: the prompt would be cut into other tokens if the answer followed it, or
            nothing is left of the answer.
        ScopeError: there is no tokenizer.
    """
    if tokens is None:
        raise ScopeError("this checkpoint has no tokenizer", "--target id:NUMBER")
    before = tokens.encode(prompt, special_tokens=False).ids
    whole = tokens.encode(prompt + answer, special_tokens=False).ids
    usage(
        whole[: len(before)] == before,
        "followed by this answer, the prompt is cut into other tokens: let the answer begin with "
        "the blank, not the prompt end with it",
        "--answer",
    )
    usage(len(whole) > len(before), "it has no token that the model knows", "--answer")
    return whole[len(before) :]
