"""One record of a file as a transcript: OpenAI's messages, ShareGPT, the columns of trl, Alpaca."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmscope.corpus.records.transcripts.transcript import ToolCall, Transcript, Turn
from llmscope.errors import ScopeError, option
from llmscope.support.lines import LineError, json_of
from llmscope.support.text import quoted_text

MOST_TURNS = 10_000
"""Maximum number of turns of a transcript."""
DEEPEST = 64
"""Maximum nesting of a record: a template that descends further would end in an error."""
EXAMPLE = '{"messages": [{"role": "user", "content": "…"}]}'
"""A line that can be read."""

_ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    **dict.fromkeys(("function", "ipython", "observation", "tool_response"), "tool"),
    **dict.fromkeys(("gpt", "chatgpt", "bard", "bot", "model", "ai"), "assistant"),
    "human": "user",
}
_CALLS = ("function_call", "tool_call")
"""Roles of ShareGPT whose value is a call as JSON."""
_TEXT_PARTS = ("text", "input_text", "output_text")
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of what a model thought before it answered."""
COLUMNS = frozenset(
    (
        *("messages", "conversations", "prompt", "completion", "chosen", "rejected", "text"),
        *("instruction", "input", "output", "system", "tools"),
        *("role", "content", "from", "value", "tool_calls", "function_call", *_REASONING),
        *("name", "tool_call_id"),
    )
)
"""The keys of a record that are read."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def transcript_of(value: Any, where: str, line: int, *, rejected: bool = False) -> Transcript:
    """Return a record as a transcript.

    Args:
        value: the record, as JSON or Parquet gives it.
        where: its file and line, safe to print.
        line: its line.
        rejected: take the rejected answer of a pair, and not the chosen one.

    Raises:
        ScopeError: it is no transcript; the message begins with `where`.
    """
    return _Record(where, line, rejected).read(value)


def is_message(value: Any) -> bool:
    """Return whether a record is a single message, of which a transcript has one a line."""
    if not isinstance(value, Mapping):
        return False
    named = ("role" in value and "messages" not in value) or ("from" in value and "value" in value)
    return named and "conversations" not in value


class _Record:
    def __init__(self, where: str, line: int, rejected: bool) -> None:
        self._where, self._line, self._rejected = where, line, rejected
        self._turn = 0

    def read(self, value: Any) -> Transcript:
        if _too_deep(value):
            raise self._wrong(f"it is nested deeper than {DEEPEST} levels", EXAMPLE)
        if isinstance(value, list):
            value = {"messages": value}
        if not isinstance(value, Mapping):
            raise self._wrong("it is no transcript", EXAMPLE)
        columns = {name: child for name, child in value.items() if child is not None}
        answer = "rejected" if self._rejected else "chosen"
        if self._rejected and answer not in columns:
            raise self._wrong("it has no rejected answer", f"the same without {option('rejected')}")
        turns: tuple[Turn, ...]
        if "messages" in columns or "conversations" in columns:
            turns = self._turns(columns.get("messages", columns.get("conversations")))
        elif "prompt" in columns or answer in columns:
            turns = self._of_columns(columns, answer)
        elif "instruction" in columns:
            turns = self._of_alpaca(columns)
        elif "text" in columns:
            turns = (Turn("text", self._text(columns["text"], "text")),)
        else:
            raise self._wrong(
                "it has neither messages nor conversations, prompt, chosen or text", EXAMPLE
            )
        if isinstance(columns.get("system"), str) and turns[0].role not in ("system", "developer"):
            turns = (Turn("system", self._text(columns["system"], "system")), *turns)
        self._turn = 0
        return Transcript(self._where, self._line, turns, self._tools(columns.get("tools")))

    def _of_columns(self, columns: Mapping[str, Any], answer: str) -> tuple[Turn, ...]:
        """Return the turns of trl's columns: lists of messages, or plain texts."""
        last = (
            columns.get("completion", columns.get(answer))
            if answer == "chosen"
            else columns[answer]
        )
        first = columns.get("prompt")
        if isinstance(first, str) or (first is None and isinstance(last, str)):
            turns = []
            if first is not None:
                turns.append(Turn("prompt", self._text(first, "prompt")))
            if last is not None:
                turns.append(Turn("completion", self._text(last, "the answer")))
            return tuple(turns)
        before = [] if first is None else first
        after = [] if last is None else last
        if not (isinstance(before, list) and isinstance(after, list)):
            raise self._wrong("of prompt and answer one is a text, and one a list", EXAMPLE)
        return self._turns([*before, *after])

    def _of_alpaca(self, columns: Mapping[str, Any]) -> tuple[Turn, ...]:
        question = self._text(columns["instruction"], "instruction")
        more = self._text(columns.get("input", ""), "input")
        turns = [Turn("user", f"{question}\n\n{more}" if more else question)]
        if "output" in columns:
            turns.append(Turn("assistant", self._text(columns["output"], "output")))
        return tuple(turns)

    def _turns(self, messages: Any) -> tuple[Turn, ...]:
        if not isinstance(messages, list):
            raise self._wrong("its messages are no list", EXAMPLE)
        if not messages:
            raise self._wrong("it has no messages", EXAMPLE)
        if len(messages) > MOST_TURNS:
            raise self._wrong(
                f"it has {len(messages):,} messages, more than {MOST_TURNS:,}", "a shorter one"
            )
        turns = []
        for self._turn, message in enumerate(messages, 1):
            turns.append(self._message(message))
        self._turn = 0
        return tuple(turns)

    def _message(self, message: Any) -> Turn:
        if not isinstance(message, Mapping):
            raise self._wrong("it is no object with role and content", EXAMPLE)
        keys = {name: child for name, child in message.items() if child is not None}
        if "role" not in keys and "from" in keys:
            return self._of_sharegpt(keys)
        role = self._role(keys.get("role"))
        calls = self._calls(keys)
        reasoning = next((keys[name] for name in _REASONING if name in keys), "")
        if "content" not in keys and not (calls or reasoning):
            raise self._wrong("it has no content", '"content": "…"')
        return Turn(
            role,
            self._content(keys.get("content", "")),
            self._text(reasoning, "the reasoning"),
            calls,
            self._text(keys.get("name", ""), "the name"),
            self._text(keys.get("tool_call_id", ""), "tool_call_id"),
        )

    def _of_sharegpt(self, keys: Mapping[str, Any]) -> Turn:
        if "value" not in keys:
            raise self._wrong("it has no value", '"value": "…"')
        text = self._text(keys["value"], "the value")
        if keys["from"] not in _CALLS:
            return Turn(self._role(keys["from"]), text)
        call = self._json(text, "the call")
        listed = call if isinstance(call, list) else [call]
        return Turn("assistant", calls=tuple(map(self._call, listed)))

    def _role(self, role: Any) -> str:
        if role is None:
            raise self._wrong("it has no role", '"role": "user"')
        if not isinstance(role, str):
            raise self._wrong("its role is no text", '"role": "user"')
        if role not in _ROLES:
            raise self._wrong(
                f"the role {quoted_text(role[:40])} is unknown",
                "system, developer, user, assistant or tool",
            )
        return _ROLES[role]

    def _content(self, content: Any) -> str:
        if not isinstance(content, list):
            return self._text(content, "its content")
        texts = []
        for part in content:
            kind = part.get("type", "text") if isinstance(part, Mapping) else None
            if isinstance(part, str):
                texts.append(self._text(part, "a part of its content"))
            elif kind in _TEXT_PARTS and isinstance(part, Mapping):
                texts.append(self._text(part.get("text"), "a part of its content"))
            elif isinstance(kind, str):
                raise self._wrong(
                    f"a part of its content is of type {quoted_text(kind[:40])}", "parts of text"
                )
            else:
                raise self._wrong("a part of its content is no text", "parts of text")
        return "".join(texts)

    def _calls(self, keys: Mapping[str, Any]) -> tuple[ToolCall, ...]:
        listed = keys.get("tool_calls", [])
        if "function_call" in keys and not listed:
            listed = [keys["function_call"]]
        if not isinstance(listed, list):
            raise self._wrong("its tool calls are no list", '"tool_calls": [{"function": …}]')
        return tuple(map(self._call, listed))

    def _call(self, value: Any) -> ToolCall:
        wanted = '{"name": "…", "arguments": {…}}'
        if not isinstance(value, Mapping):
            raise self._wrong("a tool call is no object", wanted)
        call = value.get("function", value)
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise self._wrong("a tool call has no name", wanted)
        name = self._text(call["name"], "the name of a tool")
        arguments, text = call.get("arguments"), ""
        if isinstance(arguments, str):
            printed, text = quoted_text(name[:40]), arguments
            arguments = self._json(arguments or "{}", f"the arguments of the call of {printed}")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, Mapping):
            raise self._wrong("the arguments of a tool call are no object", wanted)
        self._check(arguments, "the arguments of a tool call")
        number = self._text(value.get("id") or "", "the id of a call")
        return ToolCall(name, arguments, number, text)

    def _tools(self, tools: Any) -> tuple[Mapping[str, Any], ...]:
        if isinstance(tools, str):
            tools = self._json(tools or "[]", "tools")
        if tools is None:
            return ()
        if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
            raise self._wrong("its tools are no list of objects", '"tools": [{"type": "function"}]')
        self._check(tools, "tools")
        return tuple(tools)

    def _json(self, text: str, what: str) -> Any:
        try:
            content = json_of(text.encode("utf-8"), strict=True)
        except LineError as error:
            raise self._wrong(f"{what}: {error}", "arguments as an object") from None
        if _too_deep(content):
            raise self._wrong(f"{what}: nested deeper than {DEEPEST} levels", "flatter ones")
        return content

    def _text(self, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise self._wrong(f"{what} is no text", '"content": "…"')
        if _SURROGATE.search(value):
            raise self._wrong(f"{what} is not valid Unicode", "text without lone surrogates")
        return value

    def _check(self, value: Any, what: str) -> None:
        """Check everything within a value: Parquet has more types than JSON."""
        if isinstance(value, str):
            self._text(value, what)
        elif isinstance(value, Mapping):
            for name, child in value.items():
                self._text(name, what)
                self._check(child, what)
        elif isinstance(value, list):
            for child in value:
                self._check(child, what)
        elif isinstance(value, float) and not math.isfinite(value):
            raise self._wrong(f"{what}: {value} is no number of JSON", "a finite number")
        elif value is not None and not isinstance(value, bool | int | float):
            kind = type(value).__name__
            raise self._wrong(f"{what}: a value of type {kind} is no JSON", "text or numbers")

    def _wrong(self, message: str, hint: str) -> ScopeError:
        turn = f", turn {self._turn}" if self._turn else ""
        return ScopeError(f"{self._where}{turn}: {message}", hint)


def _too_deep(value: Any) -> bool:
    """Return whether lists and objects are nested more than `DEEPEST` levels deep."""
    level: Sequence[Any] = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            if isinstance(parent, Mapping | list)
            for child in (parent.values() if isinstance(parent, Mapping) else parent)
        ]
        if not level:
            return False
    return True
