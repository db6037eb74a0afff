"""Whether two models read the same tokens, and the logits of the tokens that both have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmscope.support.text import display_text

if TYPE_CHECKING:
    from torch import Tensor

    from llmscope.models.loaded_model import LoadedModel
    from llmscope.models.tokenizer.tokens import Tokens

PROBES = (
    "The cat sat on the mat.",
    " two  spaces, 12345 and 3.14",
    "\tdef f(x):\n\n    return x*2 # ok\r\n",
    "naïve Ünïcode: 漢字 кот قط 🙂",
    "I'm WE'LL don't",
)
"""Texts that tokenizers with the same vocabulary may still cut in different ways."""


def token_difference(a: LoadedModel, b: LoadedModel) -> str:
    """Return why two models do not read the same tokens, with the first difference.

    Compared are the text of each id up to the smaller vocabulary, and the ids of some texts. The
    special tokens that a tokenizer adds do not count, as both models are given the ids of A. A
    model without a tokenizer reads the ids of the other, and a vocabulary may be padded with ids
    that have no text.

    Returns:
        The reason in one line; empty if they read the same tokens.
    """
    if a.tokens is None or b.tokens is None:
        if a.tokens is b.tokens and a.anatomy.vocabulary != b.anatomy.vocabulary:
            return (
                f"they have no tokenizer to compare, and {a.anatomy.vocabulary} and "
                f"{b.anatomy.vocabulary} tokens"
            )
        return ""
    if a.tokens is b.tokens:
        return ""
    difference = _vocabularies(a.tokens, b.tokens)
    if difference or a.backend != b.backend:
        # Two engines may cut a file's texts differently, and its ids mean the same in both.
        return difference
    return _cuts(a.tokens, b.tokens)


def _vocabularies(a: Tokens, b: Tokens) -> str:
    ours, theirs = (_by_id(tokens) for tokens in (a, b))
    for token in sorted(ours.keys() & theirs.keys()):
        if ours[token] != theirs[token]:
            return f"token {token} is {_quote(ours[token])} in A and {_quote(theirs[token])} in B"
    only = sorted(ours.keys() ^ theirs.keys())
    if only and min(len(ours), len(theirs)) <= only[0]:
        # Ids after the smaller vocabulary: the other model has more tokens, and reads the same.
        return ""
    if only:
        token = only[0]
        having, lacking = ("A", "B") if token in ours else ("B", "A")
        text = ours.get(token, theirs.get(token, ""))
        return f"token {token} is {_quote(text)} in {having}, and {lacking} has no such token"
    return ""


def _by_id(tokens: Tokens) -> Mapping[int, str]:
    return {token: text for text, token in tokens.tokenizer.get_vocab().items()}


def _cuts(a: Tokens, b: Tokens) -> str:
    for text in PROBES:
        ours, theirs = (tokenizer.encode(text, special_tokens=False).ids for tokenizer in (a, b))
        if ours == theirs:
            continue
        at = next(
            (n for n, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y),
            min(len(ours), len(theirs)),
        )
        left, right = (
            f"token {ids[at]} {_quote(tokenizer.piece(ids[at]))}" if at < len(ids) else "the end"
            for tokenizer, ids in ((a, ours), (b, theirs))
        )
        return f"{_quote(text)} begins to differ at token {at}: {left} in A, {right} in B"
    return ""


def _quote(text: str) -> str:
    return f"‹{display_text(text, whitespace=True)}›"


def shared_logits(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two models' logits of the ids that both vocabularies have, on the device of `a`.

    A vocabulary is often padded to a round number; the ids that only one model has are left out,
    so that probabilities sum to 1 over the others.

    Args:
        a, b: logits. `[..., token]` and `[..., token]`
    """
    count = min(a.shape[-1], b.shape[-1])
    return a[..., :count], b[..., :count].to(a.device)
