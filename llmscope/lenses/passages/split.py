"""Where the passages of a prompt are: documents that were retrieved for a question."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

_TAGGED = re.compile(
    r"<(?P<tag>doc|document|passage|source|chunk)\b[^>\n]*>.*?</(?P=tag)>\s*",
    re.DOTALL | re.IGNORECASE,
)
_NUMBERED = re.compile(r"^[^\S\n]*\[\d+\]", re.MULTILINE)
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_ROLE = re.compile(r"\s*(?:system|user|assistant|human|model|tool|developer)[^\S\n]*\n+")


def passages(prompt: Prompt, labels: Sequence[str], separator: str = "") -> tuple[range, ...]:
    """Return the tokens of each passage of a prompt; empty if it has none.

    A passage is what stands between matches of the separator, before the last; without one, what
    stands in `<doc>…</doc>`, or a paragraph that begins with `[1]`, or else a paragraph before the
    last one; in a chat without any of them, a turn before the last one that says something. Special
    tokens, and the role after them, are no part of a passage.

    Args:
        prompt: the prompt.
        labels: the texts of its tokens, with line breaks.
        separator: a regular expression; empty: passages are found by their form.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]  # of each token, and the end
    if separator:
        spans = list(_between(text, re.compile(separator)))
    else:
        spans = list(_by_form(text)) or _turns(prompt, text, starts)
    found: list[range] = []
    for start, end in spans:
        first, stop = bisect_left(starts, start), bisect_left(starts, end)
        # A token that begins with blanks may start before the first visible character.
        if first and starts[first] != start and not text[starts[first - 1] : start].strip():
            first -= 1
        first = _after_special(prompt, labels, first, min(stop, len(labels)))
        stop = min(stop, len(labels))
        if found:
            first = max(first, found[-1].stop)
        if any(one.strip() for one in labels[first:stop]):
            found.append(range(first, stop))
    return tuple(found)


def _by_form(text: str) -> Iterator[tuple[int, int]]:
    tagged = [one.span() for one in _TAGGED.finditer(text)]
    if tagged:
        return iter(tagged)
    numbered = [one.start() for one in _NUMBERED.finditer(text)]
    if not numbered:
        return _between(text.rstrip(), _BLANK)
    ends = (*numbered[1:], len(text))

    def spans() -> Iterator[tuple[int, int]]:
        for start, end in zip(numbered, ends, strict=True):
            blank = _BLANK.search(text, start, end)
            if blank is not None:
                end = blank.end()
            elif end == len(text):
                line = text.find("\n", start)
                end = end if line < 0 else line + 1
            yield start, end

    return spans()


def _turns(prompt: Prompt, text: str, starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the turns of a chat, as characters, without the last one that has a content."""
    roles = [
        (start, found.end())
        for start, end, special in zip(starts, starts[1:], prompt.special, strict=False)
        if special and (found := _ROLE.match(text, end)) is not None
    ]
    ends = [start for start, _ in roles[1:]] + [len(text)] * bool(roles)
    turns = [(start, end) for (start, _), end in zip(roles, ends, strict=True)]
    while turns and not text[roles[len(turns) - 1][1] : turns[-1][1]].strip():
        turns.pop()  # where the model is to answer
    return turns[:-1]


def _between(text: str, separator: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yield what stands before each match of a separator that is not empty, with the match."""
    start = 0
    for found in separator.finditer(text):
        if found.end() > found.start():
            yield start, found.end()
            start = found.end()


def _after_special(prompt: Prompt, labels: Sequence[str], first: int, stop: int) -> int:
    """Return the first token of a passage after its special tokens, and after roles behind them.

    A special token in the middle is a part of a passage, such as an unknown word, unless the name
    of a role follows.
    """
    after = first
    while after < stop and prompt.special[after]:
        after += 1
    for at in range(first, stop):
        role = _ROLE.match("".join(labels[at + 1 : stop])) if prompt.special[at] else None
        if role is not None:
            reached = list(accumulate(map(len, labels[at + 1 : stop])))
            after = max(after, at + 2 + bisect_left(reached, role.end()))
    return after
