"""The chat template of a tokenizer: turns messages into the exact text that the model reads.

A template is a program that comes with a model. It runs in a child process that can be killed, and
only when its text or its marks are needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.models.tokenizer.roles import ChatMarks, RoleSpan, learn
from llmscope.support.sandbox import CallError, FunctionError, TimeLimitError, Worker
from llmscope.support.text import one_line

PATIENCE = 2.0
"""Seconds that a template may take."""
LONGEST = 1_000_000
"""Characters that a template may write in addition to the messages."""
BYTES_A_CHARACTER = 8
"""Bytes of an answer that a character may take, as JSON with escapes."""
SEEN = 4096
"""Characters at the start of a text that are searched for words of a template."""

TUNED = "a model that was tuned for chat"

Message = tuple[str, str]
"""Role and content."""

_worker = Worker("llmscope.models.tokenizer.template")
_WORDS = re.compile(r"[^\s'\"{}\\]+")
_CODE = frozenset("=!<>+-|~*/%&.,:;()[]_")


class Chat:
    """A tokenizer's chat template.

    Args:
        tokenizer: transformers' own object; None for a model without a tokenizer.
        patience: seconds that the template may take.
    """

    def __init__(self, tokenizer: Any, patience: float = PATIENCE) -> None:
        self._tokenizer = tokenizer
        self._patience = patience

    def apply(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Render the template. The text includes special tokens: encode it without adding any.

        Args:
            messages: (role, content) pairs.
            add_generation_prompt: end with the start of the assistant's message.

        Raises:
            ScopeError: the model has no template, or the template rejects the messages, fails or
                takes too long.
        """
        system = any(role == "system" for role, _ in messages)
        text = self.render(
            _as_records(messages),
            add_generation_prompt,
            refused=_without("system" if system else "chat"),
        )
        for role, content in messages:
            # Some templates silently skip messages that they do not expect.
            if role == "system" and content.strip() not in text:
                raise ScopeError("the chat template drops the system message", _without("system"))
        return text

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        hint: str = "",
        refused: str = "",
    ) -> str:
        """Render the template for whole messages, as transformers does.

        Args:
            messages: the messages with all their keys, such as `tool_calls`.
            add_generation_prompt: end with the start of the assistant's message.
            tools: the tools that the model is offered, as JSON schemas.
            hint: what to try without a template, and where it fails or takes too long.
            refused: what to try where the template rejects the messages.

        Raises:
            ScopeError: the model has no template, or the template rejects the messages, fails or
                takes too long.
        """
        self._check(hint)
        try:
            return self._render(messages, add_generation_prompt, tools)
        except TimeLimitError:
            raise ScopeError(
                f"the chat template did not end within {self._patience:g} s",
                hint or _without("chat"),
            ) from None
        except Exception as error:  # any error of the template, or a killed child
            refuses = isinstance(error, FunctionError) or not isinstance(error, CallError)
            reason = one_line(str(error) or type(error).__name__)
            raise ScopeError(
                f"the chat template {'refuses this' if refuses else 'was given up'}: {reason}",
                (refused if refuses else hint) or _without("chat"),
            ) from error

    def prompt(self, text: str, system: str | None = None) -> str:
        """Render one user message, up to the start of the model's answer.

        Args:
            text: the user message.
            system: a system message before it; None without one.

        Raises:
            ScopeError: as for `apply`.
        """
        before = [] if system is None else [("system", system)]
        return self.apply([*before, ("user", text)])

    @cached_property
    def marks(self) -> ChatMarks:
        """Return the text that the template writes around each role; empty without a template.

        This runs the template, unlike `words` and `may_follow`.
        """

        def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
            try:
                return self._render(_as_records(messages), add_generation_prompt)
            except FunctionError:  # the template does not support these roles
                return None

        try:
            self._check()
            return learn(render)
        except Exception:  # the template was killed, or transformers finds none
            return ChatMarks()

    @cached_property
    def words(self) -> frozenset[str]:
        """Return words of which a text that follows the template contains at least one.

        They are read from the template's source, and decide whether to run the template to find
        the roles in a text. A text that contains one need not follow the template.
        """
        try:
            self._check()
            source = self._source()
        except Exception:  # no template, or several
            return frozenset()
        quoted = _WORDS.findall(source.replace("\\n", "\n"))
        named = self._tokenizer.special_tokens_map.values() if "_token" in source else ()
        words = (word for word in (*quoted, *named) if len(word) > 2 and not word.isalnum())
        return frozenset(word for word in words if not _CODE.issuperset(word))

    def may_follow(self, text: str) -> bool:
        """Return whether a text may follow the template, without running the template."""
        return may_follow(text, self.words)

    def roles(self, text: str) -> tuple[RoleSpan, ...]:
        """Return the role spans of a text that follows the template; empty for any other."""
        return self.marks.roles(text) if self.may_follow(text) else ()

    def _check(self, hint: str = "") -> None:
        if self._tokenizer is None:
            raise ScopeError("this checkpoint has no tokenizer, so no chat template", option("ids"))
        if not getattr(self._tokenizer, "chat_template", None):
            raise ScopeError(
                "this model's tokenizer has no chat template",
                hint or f"{_without('chat')}, or {TUNED}",
            )

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        apply = type(self._tokenizer).apply_chat_template
        if apply.__module__ != "transformers.tokenization_utils_base":
            # The tokenizer has its own code, which runs in this process anyway.
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **({"tools": tools} if tools else {}),
                )
            )
        special_tokens = self._tokenizer.special_tokens_map
        most_chars = LONGEST + 2 * len(json.dumps([*messages, *tools], ensure_ascii=False))
        arguments = (
            self._source(),
            messages,
            add_generation_prompt,
            special_tokens,
            most_chars,
            tools or None,
        )
        most_bytes = BYTES_A_CHARACTER * most_chars
        return str(_worker.call("render", *arguments, seconds=self._patience, largest=most_bytes))

    def _source(self) -> str:
        """Return the source of the template that transformers would choose among several."""
        source = self._tokenizer.get_chat_template()
        if not isinstance(source, str):
            raise TypeError("it is no text")
        return source


def _as_records(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in messages]


def may_follow(text: str, words: frozenset[str]) -> bool:
    """Return whether a text may follow a chat template with these `Chat.words`."""
    beginning = text[:SEEN]
    return any(word in beginning for word in words)


def _without(name: str) -> str:
    return f"the prompt without {option(name)}"
