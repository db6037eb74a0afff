"""A conversation as turns, whatever the format of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmscope.errors import ScopeError, option

PLAIN_ROLES = ("text", "prompt", "completion")
"""The roles of a text that is no chat, and so is read without a chat template."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: the name of the tool.
        arguments: the arguments by name.
        id: what its result refers to; empty if the file has none.
        text: the arguments as the file writes them; empty where they are no text there.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    text: str = field(default="", compare=False)

    def as_text(self) -> str:
        """Return the arguments as JSON in a text."""
        return self.text or json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        role: system, developer, user, assistant or tool; or one of `PLAIN_ROLES`.
        content: the text; empty without one, as beside a tool call.
        reasoning: what the model thought first, where the file has it apart from the content.
        calls: the calls of tools.
        name: the name of the speaker or of the tool; empty if the file has none.
        call_id: which call it is the result of; empty if the file has none.
    """

    role: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""

    def to_message(self, *, as_text: bool = False) -> dict[str, Any]:
        """Return the message as chat templates expect it, without keys that it does not need.

        Args:
            as_text: give the arguments of calls as JSON in a text, as some templates expect them.
        """
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    **({"id": call.id} if call.id else {}),
                    "function": {
                        "name": call.name,
                        "arguments": call.as_text() if as_text else dict(call.arguments),
                    },
                }
                for call in self.calls
            ]
        if self.name:
            message["name"] = self.name
        if self.call_id:
            message["tool_call_id"] = self.call_id
        return message


@dataclass(frozen=True)
class Transcript:
    """A conversation.

    Attributes:
        where: its file and line, safe to print.
        line: its line in the file from 1; in Parquet its row, in a JSON list its place.
        turns: its messages in order, at least one.
        tools: the tools that the model was offered, as JSON schemas.
        asked: whether the model speaks next, after `until`: the file goes on with the assistant, or
            ends with another turn.
    """

    where: str
    line: int
    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    asked: bool = False

    @property
    def plain(self) -> bool:
        """Whether it is a text without roles, which no chat template belongs to."""
        return self.turns[0].role in PLAIN_ROLES

    def until(self, turn: int | None) -> Transcript:
        """Return the transcript up to a turn, and whether the model speaks after it.

        Args:
            turn: the last turn that is kept, from 1; None keeps all.

        Raises:
            ScopeError: there is no such turn.
        """
        count = len(self.turns)
        last = count if turn is None else turn
        if not 1 <= last <= count:
            raise ScopeError(
                f"{self.where}: there is no turn {turn}: it has {count}",
                f"{option('turn', 1)} to {count}",
            )
        speaks = self.turns[last].role if last < count else "assistant"
        answers = speaks == "assistant" and self.turns[last - 1].role != "assistant"
        return replace(self, turns=self.turns[:last], asked=answers)
