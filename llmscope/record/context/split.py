"""Splitting a prompt into its context and the query after it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from llmscope.errors import ScopeError, WrongValueError, option

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

_LINE = re.compile(r"\S[^\S\n]*\n")  # the end of a line that is not blank
_PARTED = re.compile(r"\S[^\S\n]*\n(\s*\n)")  # as above, and the blank lines after it
_CLOSED = re.compile(r"\n\s*\n[^\S\n]*\Z")  # a blank line at the very end
_INSIDE = {
    "clause": re.compile(r"[,;.!?]+(?=\s+\S)"),
    "word": re.compile(r"\S(?=\s+\S)"),
}
"""The parts of a text of one line, the longest first: a match ends one before the last."""
MOST_PARTS = 16
"""The most parts of a context of one line: each is a pass of the gain, and a long text has many."""


@dataclass(frozen=True)
class Query:
    """The tokens after a context, to be run without it.

    Attributes:
        ids: ids of the tokens to run: the kept tokens, then the query.
        positions: their positions in the whole prompt; None: positions count from 0, as they do
            when the query is run on its own.
        rows: number of last tokens that the patch is computed for.
        context: number of tokens of the prompt that are left out.
        kept: number of special tokens kept at the prompt's start, such as BOS. Without one, the
            query's first token would become the attention sink, and the patch would encode that.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...] | None
    rows: int
    context: int
    kept: int


def query_of(
    prompt: Prompt,
    before: int,
    *,
    rows: int | None = 1,
    keep_positions: bool = True,
    kept_tokens: int | None = None,
) -> Query:
    """Return the query of a prompt.

    Args:
        prompt: the context followed by the query.
        before: number of tokens before the query, special tokens at the start included.
        rows: number of last tokens to patch; None: all of the query.
        keep_positions: keep the tokens' positions in the prompt; see `Query.positions`.
        kept_tokens: number of tokens kept at the start; None: the leading special tokens, up to one
            that the query itself begins with, as each message of a chat does.

    Raises:
        ValueError: the context or the query is empty.
    """
    if before >= len(prompt):
        raise WrongValueError("there is no query after the context")
    if kept_tokens is None:
        first_token = prompt.ids[before]
        start = zip(prompt.ids[: max(before, 0)], prompt.special, strict=False)
        kept_tokens = sum(
            1 for _ in takewhile(lambda token: token[1] and token[0] != first_token, start)
        )
    if before <= kept_tokens:
        raise WrongValueError("there is no context before the query")
    places = (*range(kept_tokens), *range(before, len(prompt)))
    return Query(
        ids=tuple(prompt.ids[place] for place in places),
        positions=places if keep_positions else None,
        rows=len(prompt) - before if rows is None else rows,
        context=before - kept_tokens,
        kept=kept_tokens,
    )


def labels_with_lines(prompt: Prompt) -> tuple[str, ...]:
    """Return the labels of a prompt's tokens, with the line breaks of its text.

    A tokenizer may drop line breaks. Then a token's label is its part of the text, up to the next
    token's first visible character, so that a line break ends the token before it.
    """
    text = prompt.text
    if "\n" not in text or any("\n" in label for label in prompt.labels):
        return prompt.labels
    starts = [start + _blank(text[start:end]) for start, end in prompt.spans]
    stops = (*starts[1:], len(text))
    return tuple(text[start:stop] for start, stop in zip(starts, stops, strict=True))


def _blank(text: str) -> int:
    return len(text) - len(text.lstrip())


def last_line(labels: Sequence[str]) -> int | None:
    """Return the number of tokens before a prompt's last line; None if it has only one line.

    A newline at the very end belongs to the last line.
    """
    ends = [place for place, label in enumerate(labels[:-1]) if "\n" in label]
    return ends[-1] + 1 if ends else None


def inside_line(text: str) -> tuple[str, list[int]]:
    """Return what a text of one line consists of, and where each part but the last ends.

    Clauses where punctuation ends one before the last, else words; "" and no ends if there are
    several lines or a single word.
    """
    if "\n" not in text.strip("\n"):
        for unit, end in _INSIDE.items():
            if cuts := [match.end() for match in end.finditer(text)]:
                return unit, cuts
    return "", []


def query_start(labels: Sequence[str], kept_tokens: int) -> int | None:
    """Return the number of tokens before the query of a prompt that marks no context.

    The query is the last line; in a prompt of one line the last clause, else the last word, else
    the last token. None if nothing comes before it.

    Args:
        labels: labels of the prompt's tokens.
        kept_tokens: number of special tokens at the prompt's start.
    """
    by_line = last_line(labels)
    if by_line is not None:
        return by_line
    _, part_ends = inside_line("".join(labels[kept_tokens:]))  # in characters
    token_ends = list(accumulate(map(len, labels[kept_tokens:])))  # in characters
    starts = [kept_tokens + bisect_left(token_ends, end) + 1 for end in part_ends]  # in tokens
    before_last = [start for start in starts if start < len(labels)]
    start = before_last[-1] if before_last else len(labels) - 1
    return start if start > kept_tokens else None


@dataclass(frozen=True)
class ContextParts:
    """What a context consists of.

    Attributes:
        name: what a part is called: example, clause, word or token.
        ends: the number of tokens of the prompt up to the end of each part, or of several.
        counts: the number of parts up to each of these ends.
    """

    name: str
    ends: tuple[int, ...]
    counts: tuple[int, ...]


def parts_of(labels: Sequence[str], kept_tokens: int, before: int) -> ContextParts:
    """Return the parts of a context: its examples, or what its one line consists of.

    In a prompt of one line whose query is its last part, they are of the same kind as the query. Of
    more than `MOST_PARTS`, as many go together.

    Args:
        labels: labels of the prompt's tokens, the query's included.
        kept_tokens: number of special tokens at the prompt's start.
        before: number of tokens before the query.
    """
    if last_line(labels) is not None or before != query_start(labels, kept_tokens):
        ends = example_ends(labels, kept_tokens, before)
        return ContextParts("example", ends, tuple(range(1, len(ends) + 1)))
    unit, cuts = inside_line("".join(labels[kept_tokens:]))
    reached = list(accumulate(map(len, labels[kept_tokens:before])))  # characters after each token
    places = [kept_tokens + bisect_left(reached, cut) + 1 for cut in cuts]
    if not unit:
        places = list(range(kept_tokens + 1, before))
    whole = list(dict.fromkeys((*(end for end in places if end < before), before)))
    together = -(-len(whole) // MOST_PARTS)
    counts = range(len(whole), 0, -together)[::-1]
    return ContextParts(unit or "token", tuple(whole[count - 1] for count in counts), tuple(counts))


def example_ends(labels: Sequence[str], start: int, before: int) -> tuple[int, ...]:
    """Return the number of tokens up to the end of each example of a context.

    If blank lines split the context into several pieces, each piece is an example. Otherwise an
    example has as many lines as the query, if the context's number of lines is a multiple of that;
    otherwise one line. Blank lines belong to the example before them if the context ends with one,
    otherwise to the one after them, so the query follows each prefix as it follows the whole
    context.

    Args:
        labels: labels of the prompt's tokens, the query's included.
        start, before: where the context begins and ends, in tokens.
    """
    text = "".join(labels[start:before])
    closed = _CLOSED.search(text) is not None
    parted = [match.end(1) if closed else match.start(1) for match in _PARTED.finditer(text)]
    cuts = [cut for cut in parted if text[cut:].strip()]
    if not cuts:
        lines = [match.end() for match in _LINE.finditer(text)]
        cuts = [cut for cut in lines if text[cut:].strip()]
        lines_asked = max(_lines("".join(labels[before:])), 1)
        cuts = cuts[lines_asked - 1 :: lines_asked] if _lines(text) % lines_asked == 0 else cuts
    reached = list(accumulate(map(len, labels[start:before])))  # characters after each token
    ends = (start + bisect_left(reached, cut) + 1 for cut in cuts)
    return (*dict.fromkeys(end for end in ends if end < before), before)


def _lines(text: str) -> int:
    return sum(1 for line in text.split("\n") if line.strip())


def tokens_before(spans: Sequence[tuple[int, int]], characters: int) -> int:
    """Return the number of tokens that lie entirely within the first `characters` of a text.

    A token that extends beyond them is not counted.
    """
    return sum(1 for _ in takewhile(lambda span: span[1] <= characters, spans))


def end_of_context(text: str, written: str, context: int) -> int:
    """Return where the context ends in a text that contains the prompt, perhaps trimmed.

    Args:
        text: the prompt, in the chat template if there is one.
        written: context and query as they were given.
        context: number of characters of the context.

    Raises:
        ScopeError: the chat template changed more than the spaces around the prompt.
    """
    bare = written.strip()
    at = text.find(bare)
    if at < 0:
        raise ScopeError(
            "the chat template changes the prompt, so that its context cannot be told from it",
            f"the same without {option('chat')}",
        )
    return at + context - (len(written) - len(written.lstrip()))
