"""The chat template of a tokenizer: from messages to the very text that the model reads."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import FrameType
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.roles import ChatMarks, RoleSpan, learn
from llmscope.text import display_text

PATIENCE = 2.0
"""Seconds that a template may take. They are programs that come with a model, and may loop."""

WITHOUT = "the prompt without --chat"
WITHOUT_SYSTEM = "the prompt without --system"

Message = tuple[str, str]
"""Role and content."""


class Chat:
    """A tokenizer's chat template.

    Args:
        tokenizer: transformers' own object; None where the model has none.
        patience: seconds that the template may take.
    """

    def __init__(self, tokenizer: Any, patience: float = PATIENCE) -> None:
        self._tokenizer = tokenizer
        self._patience = patience

    def apply(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The text of the template, special tokens included: encode it without adding any.

        Args:
            messages: (role, content) pairs.
            add_generation_prompt: end where the assistant is to speak.

        Raises:
            ScopeError: there is no template, or it refuses or fails or does not end.
        """
        self._check()
        try:
            text = self._render(messages, add_generation_prompt)
        except _TooLong:
            raise ScopeError(
                f"the chat template did not end within {self._patience:g} s", WITHOUT
            ) from None
        except Exception as error:  # a template is somebody else's program
            reason = " ".join((str(error) or type(error).__name__).split())
            system = any(role == "system" for role, _ in messages)
            raise ScopeError(
                f"the chat template refuses this: {display_text(reason)}",
                WITHOUT_SYSTEM if system else WITHOUT,
            ) from error
        for role, content in messages:
            # Some templates pass over what they do not expect, and say nothing.
            if role == "system" and content.strip() not in text:
                raise ScopeError("the chat template drops the system message", WITHOUT_SYSTEM)
        return text

    def prompt(self, text: str, system: str | None = None) -> str:
        """One message of a person, up to where the model answers.

        Args:
            system: a system message before it.

        Raises:
            ScopeError: as for `apply`.
        """
        before = [] if system is None else [("system", system)]
        return self.apply([*before, ("user", text)])

    @cached_property
    def marks(self) -> ChatMarks:
        """What the template writes around each role; empty where there is none to learn from."""

        def render(messages: Sequence[Message], asked: bool) -> str | None:
            try:
                return self._render(messages, asked)
            except _TooLong:
                raise
            except Exception:  # roles that this template does not take
                return None

        try:
            self._check()
            return learn(render)
        except (ScopeError, _TooLong):
            return ChatMarks()

    def roles(self, text: str) -> tuple[RoleSpan, ...]:
        """Who speaks where in a text that follows the template; empty for any other."""
        return self.marks.roles(text)

    def _check(self) -> None:
        if self._tokenizer is None:
            raise ScopeError("this checkpoint has no tokenizer, so no chat template", "--ids")
        if not getattr(self._tokenizer, "chat_template", None):
            raise ScopeError(
                "this model's tokenizer has no chat template",
                f"{WITHOUT}, or a model that was tuned for chat",
            )

    def _render(self, messages: Sequence[Message], asked: bool) -> str:
        listed = [{"role": role, "content": content} for role, content in messages]
        with _deadline(self._patience):
            text = self._tokenizer.apply_chat_template(
                listed, tokenize=False, add_generation_prompt=asked
            )
        return str(text)


class _TooLong(Exception):  # noqa: N818 - it signals, as Cancelled does
    """Leaves a template that does not end."""


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Leave a template after so many seconds, in whatever loop of its own it is.

    The template is compiled to Python: its lines are watched, and no others, in this thread only.
    """
    end = time.monotonic() + seconds

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if time.monotonic() > end:
            raise _TooLong
        return line

    def call(frame: FrameType, event: str, _: Any) -> Callable[[FrameType, str, Any], Any] | None:
        return line if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)
