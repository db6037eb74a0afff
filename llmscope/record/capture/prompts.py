"""Turns the user's text or token ids into a `Prompt`, or raises an error of one line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.models.loaded_model import LoadedModel
from llmscope.models.tokenizer.tokens import Encoded, check_length
from llmscope.record.capture.recording import Prompt

_NUMBER = re.compile(r"(?<![^\s,])[0-9]{1,9}(?![^\s,])")


def encoded(model: LoadedModel, text: str, *, special_tokens: bool = True) -> Encoded:
    """Tokenize a text, with the tokens' offsets in it. Without a tokenizer it holds token ids.

    Raises:
        ScopeError: the text is too long, the tokenizer fails on it, or the checkpoint has no
            tokenizer and the text is not a list of ids.
    """
    context = model.anatomy.context
    if model.tokens is None:
        check_length(text, context)
        return _numbers(text)
    return model.tokens.encode(text, special_tokens=special_tokens, context=context)


def prompt_from(
    model: LoadedModel,
    prompt: str | Sequence[int],
    *,
    special_tokens: bool = True,
    written: Sequence[int] = (),
) -> Prompt:
    """Build a prompt from a text or from token ids.

    Args:
        model: the model whose tokenizer, vocabulary and context length apply.
        prompt: the text, or the ids.
        special_tokens: whether the tokenizer adds special tokens to a text.
        written: ids to append as they are, without tokenizing their text again.

    Raises:
        ScopeError: the prompt is empty, too long, or has ids outside of the vocabulary.
    """
    if isinstance(prompt, str):
        prompt_made = _prompt(encoded(model, prompt, special_tokens=special_tokens))
    else:
        prompt_made = prompt_of_ids(model, prompt)
    if written:
        text = prompt if isinstance(prompt, str) else ""
        prompt_made = _concatenate(prompt_made, len(text), prompt_of_ids(model, written))
    _check(model, prompt_made)
    return prompt_made


def text_of(model: LoadedModel, prompt: Prompt) -> tuple[str, bool]:
    """Return a text that gives a prompt's ids, and whether special tokens are added to it.

    Raises:
        ScopeError: no text gives them; they were given as ids, or generated.
    """
    if model.tokens is None:
        return " ".join(map(str, prompt.ids)), True
    for text in (prompt.text, model.tokens.decode(prompt.ids)):
        for special in (True, False):
            if encoded(model, text, special_tokens=special).ids == prompt.ids:
                return text, special
    raise ScopeError(
        "the tokenizer reads the text of these tokens as other tokens",
        "a recording of that text",
    )


def prompt_of_ids(model: LoadedModel, ids: Sequence[int]) -> Prompt:
    """Build a prompt from token ids, with their labels."""
    if model.tokens is None:
        return Prompt(tuple(ids), tuple(map(str, ids)), (False,) * len(ids))
    return _prompt(model.tokens.describe(ids))


def _numbers(text: str) -> Encoded:
    """Return the token ids that a text lists, with white space or commas between them.

    Raises:
        ScopeError: it holds something else.
    """
    matches = list(_NUMBER.finditer(text))
    if _NUMBER.sub("", text).strip(" \t\n,"):
        raise ScopeError(
            "this checkpoint has no tokenizer",
            f"a text of token ids, such as 5 17 3, or {option('ids')}",
        )
    return Encoded(
        text=text,
        ids=tuple(int(match[0]) for match in matches),
        pieces=tuple(match[0] for match in matches),
        spans=tuple(match.span() for match in matches),
        special=(False,) * len(matches),
    )


def _concatenate(before: Prompt, end: int, after: Prompt) -> Prompt:
    """Concatenate two prompts. `end` is where the text of the first one ends."""
    known = len(before.spans) == len(before) and len(after.spans) == len(after)
    moved = tuple((start + end, stop + end) for start, stop in after.spans)
    return Prompt(
        ids=(*before.ids, *after.ids),
        labels=(*before.labels, *after.labels),
        special=(*before.special, *after.special),
        spans=(*before.spans, *moved) if known else (),
        notices=before.notices,
        text=before.text + after.text if known else "",
    )


def _check(model: LoadedModel, prompt: Prompt) -> None:
    context, vocabulary = model.anatomy.context, model.anatomy.vocabulary
    foreign = next((token for token in prompt.ids if not 0 <= token < vocabulary), None)
    if foreign is not None:
        raise WrongUseError(
            f"token id {foreign} is not in the model's vocabulary",
            f"ids from 0 to {vocabulary - 1}, or the tokenizer that belongs to the model",
        )
    if not len(prompt):
        raise WrongUseError("the prompt is empty", "some text, such as: The capital of France is")
    if context is not None and len(prompt) > context:
        raise ScopeError(
            f"the prompt has {len(prompt)} tokens, and the model's context holds {context}",
            "a shorter prompt",
        )


def _prompt(encoded_text: Encoded) -> Prompt:
    return Prompt(
        *(
            encoded_text.ids,
            encoded_text.pieces,
            encoded_text.special,
            encoded_text.spans,
            encoded_text.notices,
        ),
        text=encoded_text.text,
    )
