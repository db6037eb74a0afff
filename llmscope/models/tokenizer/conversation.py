"""A conversation in a chat template, and where each message is in the text.

The text is the template's own. To find the messages in it, the template is rendered once more with
an invisible mark at either end of each piece of them: without the marks, that text must be the
same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from typing import Any

from llmscope.errors import ScopeError, option
from llmscope.models.tokenizer.chat import TUNED, Chat
from llmscope.models.tokenizer.roles import RoleSpan

CONTENT, REASONING, CALL = "content", "reasoning", "call"
"""What a piece of a message is."""

_FIRST_START, _FIRST_END, _MOST = 0xF0000, 0x100000, 0xFFFE
"""Characters for private use, of which each piece has one at either end."""
_MARKS = re.compile("[\U000f0000-\U0010ffff]")
_THOUGHT = re.compile(r"(</?(?:think|thinking|thought|reasoning)>)")
_REST_OF_CALL = re.compile(r"[^<\n]*[}\])]")
"""What follows the last text of a call on its line: numbers, and brackets that close."""
_SHOWN = {"developer": "system"}
_WHAT = {
    "system": "the system message",
    "developer": "the system message",
    "tool": "the tool result",
}


@dataclass(frozen=True)
class TurnSpan:
    """One part of a turn in the rendered text, without the template's marks.

    Attributes:
        start, end: its place in the text, in characters.
        role: user, assistant, system or tool; or `reasoning` or `call` for these parts of a turn.
        turn: the turn that it belongs to, from 1.
    """

    start: int
    end: int
    role: str
    turn: int

    @property
    def role_span(self) -> RoleSpan:
        """The same without its turn."""
        return RoleSpan(self.start, self.end, self.role)


@dataclass(frozen=True)
class Rendered:
    """A conversation in a chat template.

    Attributes:
        text: the text, which has its special tokens already.
        spans: the parts of its turns, in the order of the text.
        notes: what the template leaves out, one line each, with the turns.
    """

    text: str
    spans: tuple[TurnSpan, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """A part of a message that the template should write as it is.

    Attributes:
        turn: the turn of the message, from 1.
        kind: what it is.
        text: the text without white space at its ends.
        call: which call of the turn it belongs to.
    """

    turn: int
    kind: str
    text: str
    call: int = 0


def render(
    chat: Chat,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """Render a conversation.

    Args:
        chat: the template.
        messages: the messages, as `Chat.render` takes them.
        add_generation_prompt: end with the start of the assistant's message.
        tools: the tools that the model is offered.

    Raises:
        ScopeError: the template rejects a message, fails or takes too long; or the model has no
            template.
    """
    try:
        text = chat.render(
            messages,
            add_generation_prompt,
            tools,
            hint=TUNED,
            refused=f"a model whose template takes it, or another {option('turn')}",
        )
    except ScopeError as error:
        at = _find_rejected(chat, messages, tools, error.message)
        raise ScopeError(f"{f'turn {at}: ' if at else ''}{error.message}", error.hint) from None
    marker = _Marker()
    marked = [marker.message(turn, message) for turn, message in enumerate(messages, 1)]
    pieces = marker.pieces
    places = None
    if not _MARKS.search(text):
        places = _by_marks(chat, marked, add_generation_prompt, tools, text)
    if places is None:
        places = _by_search(text, pieces)
    notes = _left_out(messages, pieces, places)
    if tools and _without_tools(chat, messages, add_generation_prompt) == text:
        notes.insert(0, "the chat template leaves the tools out")
    spans = _join_spans(text, messages, pieces, places)
    if add_generation_prompt:
        spans.append(TurnSpan(len(text), len(text), "assistant", len(messages) + 1))
    return Rendered(text, tuple(spans), tuple(notes))


class _Marker:
    """Marks the pieces of messages.

    Attributes:
        pieces: the pieces that were marked, by the number of their mark.
    """

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self._calls = 0

    def message(self, turn: int, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message with marks around its pieces."""
        marked = dict(message)
        if "reasoning_content" in message:
            marked["reasoning_content"] = self._text(
                turn, REASONING, str(message["reasoning_content"])
            )
        marked["content"] = self._content(turn, str(message["content"]))
        if "tool_calls" in message:
            marked["tool_calls"] = list(map(self._call, repeat(turn), message["tool_calls"]))
        return marked

    def _content(self, turn: int, content: str) -> str:
        """Mark a content, with what is between tags of thinking as pieces of their own."""
        parts = _THOUGHT.split(content)
        if "</" not in "".join(parts[1::2]):  # nothing ends, so nothing is apart
            return self._text(turn, CONTENT, content)
        thinks = False
        for index, part in enumerate(parts):
            if index % 2:
                thinks = not part.startswith("</")
            else:
                ends = index + 1 < len(parts) and parts[index + 1].startswith("</")
                parts[index] = self._text(turn, REASONING if thinks or ends else CONTENT, part)
        return "".join(parts)

    def _call(self, turn: int, call: Mapping[str, Any]) -> dict[str, Any]:
        self._calls += 1
        function = dict(call["function"])
        function["name"] = self._text(turn, CALL, function["name"])
        function["arguments"] = self._leaves(turn, function["arguments"])
        return {**call, "function": function}

    def _leaves(self, turn: int, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(turn, CALL, value)
        if isinstance(value, Mapping):
            return {
                self._text(turn, CALL, str(name)): self._leaves(turn, inner)
                for name, inner in value.items()
            }
        return [self._leaves(turn, inner) for inner in value] if isinstance(value, list) else value

    def _text(self, turn: int, kind: str, text: str) -> str:
        """Mark a text within its white space, which a template may take away."""
        core = text.strip()
        at = len(self.pieces)
        if not core or at >= _MOST:
            return text
        self.pieces.append(_Piece(turn, kind, core, self._calls if kind == CALL else 0))
        begin = text.index(core)
        start, end = chr(_FIRST_START + at), chr(_FIRST_END + at)
        return f"{text[:begin]}{start}{core}{end}{text[begin + len(core) :]}"


def _by_marks(
    chat: Chat,
    marked: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]],
    text: str,
) -> dict[int, tuple[int, int]] | None:
    """Return the place of each piece by its number; None if the marks change the text."""
    try:
        other = chat.render(marked, add_generation_prompt, tools)
    except ScopeError:
        return None
    if _MARKS.sub("", other) != text:
        return None
    starts: dict[int, int] = {}
    places: dict[int, tuple[int, int]] = {}
    for before, mark in enumerate(_MARKS.finditer(other)):
        code, place = ord(mark[0]), mark.start() - before
        if code < _FIRST_END:
            starts.setdefault(code - _FIRST_START, place)
        elif code - _FIRST_END in starts:
            number = code - _FIRST_END
            places.setdefault(number, (starts[number], place))
    return places


def _by_search(text: str, pieces: Sequence[_Piece]) -> dict[int, tuple[int, int]]:
    """Return the place of each piece that is in the text, after the piece before it."""
    places, at = {}, 0
    for number, piece in enumerate(pieces):
        place = text.find(piece.text, at)
        if place >= 0:
            at = place + len(piece.text)
            places[number] = (place, at)
    return places


def _join_spans(
    text: str,
    messages: Sequence[Mapping[str, Any]],
    pieces: Sequence[_Piece],
    places: Mapping[int, tuple[int, int]],
) -> list[TurnSpan]:
    """Return the spans of the pieces, with adjacent ones of one kind and turn as one."""
    spans: list[TurnSpan] = []
    ordered = sorted(places, key=lambda number: (places[number], number))
    reached = 0
    whose = [(piece.turn, piece.kind, piece.call) for piece in pieces]
    for (turn, kind, _), group in groupby(ordered, whose.__getitem__):
        numbers = list(group)
        reached += len(numbers)
        later = places[ordered[reached]][0] if reached < len(ordered) else len(text)
        start = max(places[numbers[0]][0], spans[-1].end if spans else 0)
        end = max(places[number][1] for number in numbers)
        rest = _REST_OF_CALL.match(text, end, later) if kind == CALL else None
        role = str(messages[turn - 1]["role"])
        kind_shown = _SHOWN.get(role, role) if kind == CONTENT else kind
        end = rest.end() if rest else end
        if end > start:
            spans.append(TurnSpan(start, end, kind_shown, turn))
    return spans


def _left_out(
    messages: Sequence[Mapping[str, Any]],
    pieces: Sequence[_Piece],
    places: Mapping[int, tuple[int, int]],
) -> list[str]:
    """Return a line for each kind of piece that the template leaves out, with the turns."""
    there = {(pieces[number].turn, pieces[number].kind) for number in places}
    turns: dict[str, list[int]] = {}
    for turn, kind in dict.fromkeys((piece.turn, piece.kind) for piece in pieces):
        if (turn, kind) not in there:
            what = {REASONING: "the reasoning", CALL: "the tool call"}.get(
                kind, _WHAT.get(str(messages[turn - 1]["role"]), "the message")
            )
            turns.setdefault(what, []).append(turn)
    return [
        f"{_list_turns(numbers)}: the chat template leaves {what} out"
        for what, numbers in turns.items()
    ]


def _list_turns(turns: Sequence[int]) -> str:
    """Return `turn 3`, or `turns 3, 5 and 7`, at most some of them."""
    if len(turns) == 1:
        return f"turn {turns[0]}"
    listed = ", ".join(map(str, turns[:6]))
    return f"turns {listed} and {len(turns) - 6} more" if len(turns) > 6 else f"turns {listed}"


def _find_rejected(
    chat: Chat,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    message: str,
) -> int:
    """Return the first turn with which the template raises this error; 0 if none does alone.

    The template is run for the beginnings of the conversation, in few steps: once it rejects one,
    it rejects what goes on from there.
    """
    low, high = 0, len(messages)
    try:
        chat.render([], False, tools)
    except ScopeError as error:
        if error.message == message:
            return 0  # a template that is missing, endless or broken
    while high - low > 1:
        middle = (low + high) // 2
        try:
            chat.render(messages[:middle], False, tools)
            low = middle
        except ScopeError as error:
            low, high = (low, middle) if error.message == message else (middle, high)
    return high


def _without_tools(
    chat: Chat, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool
) -> str | None:
    try:
        return chat.render(messages, add_generation_prompt)
    except ScopeError:
        return None
