"""The tokens of `--answer`."""

from __future__ import annotations

from llmscope.cli.options.shared import usage
from llmscope.errors import ScopeError
from llmscope.models.tokenizer.tokens import Tokens


def answer_ids(answer: str, prompt: str, tokens: Tokens | None) -> tuple[int, ...]:
    """Return the tokens of an answer as they follow the prompt, without special tokens.

    Raises:
        BadParameter: with the answer after it, the prompt would be tokenized differently, or the
            answer has no tokens.
        ScopeError: the checkpoint has no tokenizer.
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
