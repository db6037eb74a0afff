"""Where the passages of a prompt are: documents that were retrieved for a question."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from llmscope.models.files.foreign_patterns import find_spans

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

_TAGGED = re.compile(
    r"<(?P<tag>doc|document|passage|source|chunk)\b[^>\n]*>.*?</(?P=tag)>\s*",
    re.DOTALL | re.IGNORECASE,
)
_NUMBERED = re.compile(r"^[^\S\n]*\[\d+\]", re.MULTILINE)
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_ROLE = re.compile(r"\s*(system|user|assistant|human|model|tool|developer)[^\S\n]*\n+")
_ANSWERS = ("assistant", "model")


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

    Raises:
        PatternError: the separator cannot be matched in the time that it has.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]  # of each token, and the end
    if separator:
        spans = list(_between(find_spans(separator, text)))
    else:
        spans = list(_by_form(text)) or _turns(prompt, text, starts)
    found: list[range] = []
    for start, end in spans:
        first, stop = _token_at(starts, start), _token_at(starts, end)
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
        return _between(match.span() for match in _BLANK.finditer(text.rstrip()))
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


def written_answer(prompt: Prompt, labels: Sequence[str]) -> range | None:
    """Return the tokens of the answer that a chat ends with; None if its last turn is no answer.

    A turn is over where a special token ends it: after an answer that has only begun, the model
    goes on itself.
    """
    text = "".join(labels)
    starts = [0, *accumulate(map(len, labels))]
    roles = _roles(prompt, text, starts)
    if not roles or roles[-1][1] not in _ANSWERS:
        return None
    first = _token_at(starts, roles[-1][2])
    stop = next((at for at in range(first, len(labels)) if prompt.special[at]), first)
    return range(first, stop) if text[starts[first] : starts[stop]].strip() else None


def _roles(prompt: Prompt, text: str, starts: Sequence[int]) -> list[tuple[int, str, int]]:
    """Return where each turn of a chat begins, its role, and where its content begins."""
    return [
        (start, found[1], found.end())
        for start, end, special in zip(starts, starts[1:], prompt.special, strict=False)
        if special and (found := _ROLE.match(text, end)) is not None
    ]


def _turns(prompt: Prompt, text: str, starts: Sequence[int]) -> list[tuple[int, int]]:
    """Return the turns of a chat, as characters, without the last one that has a content."""
    roles = _roles(prompt, text, starts)
    ends = [start for start, _, _ in roles[1:]] + [len(text)] * bool(roles)
    turns = [(start, end) for (start, _, _), end in zip(roles, ends, strict=True)]
    while turns and not text[roles[len(turns) - 1][2] : turns[-1][1]].strip():
        turns.pop()  # where the model is to answer
    return turns[:-1]


def _between(separators: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield what stands before each separator that is not empty, with the separator."""
    start = 0
    for begin, end in separators:
        if end > begin:
            yield start, end
            start = end


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
            after = max(after, at + 1 + _token_at([0, *reached], role.end()))
    return after


def _token_at(starts: Sequence[int], place: int) -> int:
    """Return the token that begins at a place of the text, or the first after it.

    A token of blanks, whose text is with the token before, is no beginning.
    """
    return max(bisect_left(starts, place), bisect_right(starts, place) - 1)
