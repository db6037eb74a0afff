"""The forms in which a program gives a prompt: text, token ids, an encoding, a chat, or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmscope.errors import WrongTypeError, WrongValueError
from llmscope.models.tokenizer.chat import Message
from llmscope.support import arguments


class IdArray(Protocol):
    """An array of numpy, or a tensor of torch."""

    @property
    def ndim(self) -> int:
        """The number of dimensions."""

    def tolist(self) -> object:
        """Return the numbers as Python's own."""


OnePrompt = str | Sequence[int] | IdArray | Mapping[str, object] | Sequence[Mapping[str, str]]
"""One prompt: text, ids, an encoding of a tokenizer, or chat messages."""
Render = Callable[[Sequence[Message], bool], str]
"""Renders a chat, given its messages and whether the assistant's answer begins at the end."""
ROLE, CONTENT = "role", "content"


@dataclass(frozen=True)
class PromptInput:
    """A prompt as it is encoded.

    Attributes:
        content: its text, or its token ids.
        rendered: whether the text is that of a chat template, which has its special tokens already.
    """

    content: str | tuple[int, ...]
    rendered: bool = False


def is_batch(value: object) -> bool:
    """Return whether a value is a list of prompts, rather than one prompt."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence) or not value:
        return False
    first = value[0]
    if isinstance(first, Mapping):
        return ROLE not in first  # a list of messages is one chat
    return isinstance(first, str | Sequence) or getattr(first, "ndim", 0) > 0


def prompt_input(name: str, value: Any, render: Render) -> PromptInput:
    """Return one prompt from text, token ids, an encoding of a tokenizer, or chat messages.

    Ids may be a sequence, an array or a tensor, also with a first dimension of one prompt. Of an
    encoding, the tokens that its attention mask leaves out are dropped.

    Args:
        name: the argument that errors name.
        value: what the caller gave.
        render: renders a chat.

    Raises:
        TypeError: it has another form.
        ValueError: it holds several prompts.
        ScopeError: the chat template rejects the messages.
    """
    if isinstance(value, str):
        return PromptInput(arguments.text(name, value))
    if isinstance(value, Mapping):
        return PromptInput(_of_encoding(name, value))
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        messages = [_message(f"{name}[{at}]", message) for at, message in enumerate(value)]
        return PromptInput(render(messages, messages[-1][0] != "assistant"), rendered=True)
    return PromptInput(_row(name, value))


def _of_encoding(name: str, encoding: Mapping[str, Any]) -> tuple[int, ...]:
    if ROLE in encoding:
        raise WrongTypeError(f"{name} is one message: a chat is a list of them")
    if "input_ids" not in encoding:
        raise WrongTypeError(f"{name} has no input_ids: it is no encoding of a tokenizer")
    ids = _row(f"{name}['input_ids']", encoding["input_ids"])
    if encoding.get("attention_mask") is None:
        return ids
    mask = _row(f"{name}['attention_mask']", encoding["attention_mask"])
    if len(mask) != len(ids):
        raise WrongValueError(f"{name} has {len(ids)} input_ids, and a mask of {len(mask)}")
    return tuple(token for token, seen in zip(ids, mask, strict=True) if seen)


def _row(name: str, value: Any) -> tuple[int, ...]:
    """Return token ids from one row of them, or from a batch of one row."""
    rows = getattr(value, "ndim", None)
    if rows is None and isinstance(value, list | tuple) and value:
        rows = 1 + isinstance(value[0], list | tuple)
    if rows == 2:
        if len(value) != 1:
            raise WrongValueError(f"{name} holds {len(value)} prompts: give a list, one for each")
        value = value[0]
    return arguments.token_ids(name, value)


def _message(name: str, value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise WrongTypeError(f"{name} must be a message, not {arguments.quote_value(value)}")
    others = sorted(map(str, set(value) - {ROLE, CONTENT}))
    if others or ROLE not in value or CONTENT not in value:
        there = f", not {arguments.quote_value(', '.join(others))}" if others else ""
        raise WrongTypeError(f"{name} must have role and content{there}")
    return arguments.text(f"{name}['role']", value[ROLE]), arguments.text(
        f"{name}['content']", value[CONTENT]
    )
