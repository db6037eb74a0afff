"""Where the passages of a prompt are: documents that were retrieved for a question."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from llmscope.models.files.foreign_patterns import find_spans

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

_TAGGED = re.compile(
    r"<(?P<tag>doc|document|passage|source|chunk)\b[^>\n]*>.*?</(?P=tag)>\s*",
    re.DOTALL | re.IGNORECASE,
)
_NUMBERED = re.compile(r"^[^\S\n]*\[\d+\]", re.MULTILINE)
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_NAMES = "system|developer|user|human|assistant|model|tool|function|ipython|observation"
_ROLE = re.compile(rf"\s*({_NAMES})[^\S\n]*\n+")
_HEADER = re.compile(rf"\s*({_NAMES})(?:s\.[^\n]*)?\s*")
"""A role between two special tokens, and the name of a function behind it."""
_MARKERS = {
    **{name: name for name in _NAMES.split("|")},
    "inst": "user",
    "/inst": "assistant",
    "systemprompt": "system",
    "toolresults": "tool",
    "/toolresults": "assistant",
    "tooloutputsbegin": "tool",
}
"""Roles by the letters of a special token that stands for one, such as <|user|> or [INST]."""
_ANSWERS = ("assistant", "model")
_ASKING = ("user", "human")
_RESULT = re.compile(r"\s*<(?:tool_response|tool_result|tool_output|function_result|observation)")
"""How the content of a turn begins that brings a tool's result under the name of the user."""


def passages(prompt: Prompt, labels: Sequence[str], separator: str = "") -> tuple[range, ...]:
    """Return the tokens of each passage of a prompt; empty if it has none.

    A passage is what stands between matches of the separator, before the last; without one, what
    stands in `<doc>…</doc>`, or a paragraph that begins with `[1]`, or else a paragraph before the
    last one; in a chat without any of them, a turn before the last one that says something. In a
    chat with turns after the user's question, such as calls of tools and their results, every other
    turn is one, whatever its role. Special tokens, and the role after them, are no part of a
    passage.

    Args:
        prompt: the prompt.
        labels: the texts of its tokens, with line breaks.
        separator: a regular expression; empty: passages are found by their form.

    Raises:
        PatternError: the separator cannot be matched in the time that it has.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]  # of each token, and the end
    roles = _roles(prompt, text, starts)
    if separator:
        spans = list(_between(find_spans(separator, text)))
    else:
        turns = _turns(prompt, text, starts, roles)
        spans = _beside_question(text, turns) or list(_by_form(text))
        spans = spans or [turn.span for turn in turns[:-1]]
    contents = [(_token_at(starts, role.start), _token_at(starts, role.content)) for role in roles]
    ranges: list[range] = []
    for start, end in spans:
        first, stop = _token_at(starts, start), _token_at(starts, end)
        # A token that begins with blanks may start before the first visible character.
        if first and starts[first] != start and not text[starts[first - 1] : start].strip():
            first -= 1
        stop = min(stop, len(labels))
        first = _after_special(prompt, first, stop, contents)
        if ranges:
            first = max(first, ranges[-1].stop)
        if any(label.strip() for label in labels[first:stop]):
            ranges.append(range(first, stop))
    return tuple(ranges)


def has_unread_roles(prompt: Prompt, labels: Sequence[str]) -> bool:
    """Return whether a prompt looks like a chat whose roles cannot be read.

    It does if a special token, such as `<|im_end|>`, stands behind the first ordinary token, and no
    role is known around any of them.

    Args:
        prompt: the prompt.
        labels: the texts of its tokens, with line breaks.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]  # of each token, and the end
    first = next((at for at, special in enumerate(prompt.special) if not special), 0)
    marked = any(  # a token that stands for an unknown word is special too, and not in the text
        prompt.special[at] and labels[at].strip() == prompt.labels[at].strip()
        for at in range(first, len(labels))
    )
    return marked and not _roles(prompt, text, starts)


def _by_form(text: str) -> Iterator[tuple[int, int]]:
    marked = _tagged_documents(text)
    blank = (match.span() for match in _BLANK.finditer(text.rstrip()))
    return iter(marked) if marked else _between(blank)


def _tagged_documents(text: str) -> list[tuple[int, int]]:
    """Return where documents in tags are, or else paragraphs that begin with [1]."""
    tagged = [match.span() for match in _TAGGED.finditer(text)]
    return tagged or list(_numbered_paragraphs(text))


def _numbered_paragraphs(text: str) -> Iterator[tuple[int, int]]:
    numbered = [match.start() for match in _NUMBERED.finditer(text)]
    for start, end in zip(numbered, (*numbered[1:], len(text)), strict=bool(numbered)):
        blank = _BLANK.search(text, start, end)
        if blank is not None:
            end = blank.end()
        elif end == len(text):
            line = text.find("\n", start)
            end = end if line < 0 else line + 1
        yield start, end


def written_answer(prompt: Prompt, labels: Sequence[str]) -> range | None:
    """Return the positions of the answer that a chat ends with.

    The answer reaches from its first token to the special token that ends the turn.

    Args:
        prompt: the prompt.
        labels: the texts of its tokens, with line breaks.

    Returns:
        The positions. None if the last turn is not the assistant's, is blank, or has no special
        token at its end: the model itself would go on there.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]
    roles = _roles(prompt, text, starts)
    if not roles or roles[-1].name not in _ANSWERS:
        return None
    first = _token_at(starts, roles[-1].content)
    stop = next((at for at in range(first, len(labels)) if prompt.special[at]), first)
    return range(first, stop) if text[starts[first] : starts[stop]].strip() else None


class _Role(NamedTuple):
    """Where a turn of a chat begins, its role, and where its content begins, in characters."""

    start: int
    name: str
    content: int


class _Turn(NamedTuple):
    """A turn that says something, in characters.

    Attributes:
        span: all of it.
        content: where its content begins.
        asks: whether it is the user's own, and no tool's result.
        ended: whether a special token ends it.
    """

    span: tuple[int, int]
    content: int
    asks: bool
    ended: bool


def _roles(prompt: Prompt, text: str, starts: Sequence[int]) -> list[_Role]:
    """Return the turns of a chat by their special tokens, as chat templates write them.

    A role stands behind a special token, before a line break (`<|im_start|>user`) or before another
    special token (`<|start_header_id|>user<|end_header_id|>`), or is one itself (`<|user|>`).
    """
    roles: list[_Role] = []
    special = [at for at, is_special in enumerate(prompt.special) if is_special]
    for at, after in pairwise((*special, len(prompt.special))):
        start, end, behind = starts[at], starts[at + 1], starts[after]
        line = _ROLE.match(text, end)
        header = _HEADER.fullmatch(text, end, behind) if after < len(prompt.special) else None
        letters = "".join(
            char for char in text[start:end].casefold() if char.isalpha() or char == "/"
        )
        if line is not None:
            roles.append(_Role(start, line[1], line.end()))
        elif header is not None:
            roles.append(_Role(start, header[1], starts[after + 1]))
        elif letters in _MARKERS:
            roles.append(_Role(start, _MARKERS[letters], end))
    return roles


def _turns(prompt: Prompt, text: str, starts: Sequence[int], roles: Sequence[_Role]) -> list[_Turn]:
    """Return the turns of a chat up to the last one that has a content."""
    turns: list[_Turn] = []
    ends = [role.start for role in roles[1:]] + [len(text)] * bool(roles)
    for role, end in zip(roles, ends, strict=True):
        first, stop = _token_at(starts, role.content), bisect_left(starts, end)
        asks = role.name in _ASKING and _RESULT.match(text, role.content) is None
        ended = role.name not in _ANSWERS or any(prompt.special[first:stop])
        turns.append(_Turn((role.start, end), role.content, asks, ended))
    while turns and not text[turns[-1].content : turns[-1].span[1]].strip():
        turns.pop()  # where the model is to answer
    return turns


def _beside_question(text: str, turns: Sequence[_Turn]) -> list[tuple[int, int]]:
    """Return the parts of a chat that goes on after its question: all turns but the question.

    Documents in tags or with numbers are parts of their own, and so are the paragraphs before the
    question in its turn. Empty if no turn follows the question.
    """
    turns = turns[:-1] if turns and not turns[-1].ended else turns  # an answer that has begun
    question = next((at for at in reversed(range(len(turns))) if turns[at].asks), None)
    if not turns or question == len(turns) - 1:
        return []
    parts: list[tuple[int, int]] = []
    for at, turn in enumerate(turns):
        start, end = turn.span
        if at == question:
            within = _by_form(text[turn.content : end])
            parts += [(turn.content + a, turn.content + b) for a, b in within]
            continue
        cuts = [
            turn.content + cut
            for span in _tagged_documents(text[turn.content : end])
            for cut in span
        ]
        bounds = (start, *cuts, end)
        parts += [(a, b) for a, b in pairwise(bounds) if a < b]
    return parts


def _between(separators: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield what stands before each separator that is not empty, with the separator."""
    start = 0
    for begin, end in separators:
        if end > begin:
            yield start, end
            start = end


def _after_special(
    prompt: Prompt, first: int, stop: int, contents: Sequence[tuple[int, int]]
) -> int:
    """Return the first token of a passage after its special tokens, and after roles behind them.

    A special token in the middle is a part of a passage, such as an unknown word, unless the name
    of a role follows.

    Args:
        prompt: the prompt.
        first, stop: the tokens of the passage.
        contents: of each turn, its first token and the first of its content.
    """
    after = first
    while after < stop and prompt.special[after]:
        after += 1
    for start, content in contents:
        if first <= start < stop:
            after = max(after, content)
    return min(after, stop)


def _token_at(starts: Sequence[int], place: int) -> int:
    """Return the token that begins at a place of the text, or the first after it.

    A token of blanks, whose text is with the token before, is no beginning.
    """
    return max(bisect_left(starts, place), bisect_right(starts, place) - 1)
