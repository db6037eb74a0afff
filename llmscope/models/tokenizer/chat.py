"""The chat template of a tokenizer: from messages to the very text that the model reads.

A template is a program that comes with a model. It is run in a child process that can be given
up, and only when its text or its marks are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llmscope.errors import ScopeError
from llmscope.models.tokenizer.roles import ChatMarks, RoleSpan, learn
from llmscope.sandbox import CallError, FunctionError, TimeLimitError, Worker
from llmscope.text import one_line

PATIENCE = 2.0
"""Seconds that a template may take."""
LONGEST = 1_000_000
"""Characters that a template may write beside what is said."""
SEEN = 4096
"""Characters of a text that are looked at for signs of a template."""

WITHOUT = "the prompt without --chat"
WITHOUT_SYSTEM = "the prompt without --system"

Message = tuple[str, str]
"""Role and content."""

_worker = Worker("llmscope.models.tokenizer.template")
_WORDS = re.compile(r"[^\s'\"{}\\]+")
_CODE = frozenset("=!<>+-|~*/%&.,:;()[]_")


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
        except TimeLimitError:
            raise ScopeError(
                f"the chat template did not end within {self._patience:g} s", WITHOUT
            ) from None
        except Exception as error:  # whatever a template raises, or where it was given up
            refused = isinstance(error, FunctionError) or not isinstance(error, CallError)
            reason = one_line(str(error) or type(error).__name__)
            system = refused and any(role == "system" for role, _ in messages)
            raise ScopeError(
                f"the chat template {'refuses this' if refused else 'was given up'}: {reason}",
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
        """What the template writes around each role; empty without a template.

        The template runs for this. `words` and `may_follow` do without.
        """

        def render(messages: Sequence[Message], asked: bool) -> str | None:
            try:
                return self._render(messages, asked)
            except FunctionError:  # roles that this template does not take
                return None

        try:
            self._check()
            return learn(render)
        except Exception:  # one that was given up, or that transformers does not find
            return ChatMarks()

    @cached_property
    def words(self) -> frozenset[str]:
        """Words that a text in the template holds at least one of, read from its source alone.

        They tell whether to run the template to find who speaks in a text. A text that holds one
        of them may be in no template all the same.
        """
        try:
            self._check()
            source = self._source()
        except Exception:  # no such part, or several
            return frozenset()
        found = _WORDS.findall(source.replace("\\n", "\n"))
        named = self._tokenizer.special_tokens_map.values() if "_token" in source else ()
        words = (word for word in (*found, *named) if len(word) > 2 and not word.isalnum())
        return frozenset(word for word in words if not _CODE.issuperset(word))

    def may_follow(self, text: str) -> bool:
        """Whether a text may be in the template, told without running that."""
        return may_follow(text, self.words)

    def roles(self, text: str) -> tuple[RoleSpan, ...]:
        """Who speaks where in a text that follows the template; empty for any other."""
        return self.marks.roles(text) if self.may_follow(text) else ()

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
        own = type(self._tokenizer).apply_chat_template
        if own.__module__ != "transformers.tokenization_utils_base":
            # The tokenizer brings code of its own, which runs here anyway.
            return str(
                self._tokenizer.apply_chat_template(
                    listed, tokenize=False, add_generation_prompt=asked
                )
            )
        tokens = self._tokenizer.special_tokens_map
        longest = LONGEST + 2 * sum(len(content) for _, content in messages)
        arguments = (self._source(), listed, asked, tokens, longest)
        return str(_worker.call("render", *arguments, seconds=self._patience, largest=8 * longest))

    def _source(self) -> str:
        """The template that transformers would choose, where there are several."""
        source = self._tokenizer.get_chat_template()
        if not isinstance(source, str):
            raise TypeError("it is no text")
        return source


def may_follow(text: str, words: frozenset[str]) -> bool:
    """Whether a text may be in a chat template, of which `Chat.words` are these."""
    beginning = text[:SEEN]
    return any(word in beginning for word in words)
