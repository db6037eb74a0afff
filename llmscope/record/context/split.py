"""Where a prompt's context ends, and what is left of the prompt without it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.record.capture.recording import Prompt

_LINE = re.compile(r"\S[^\S\n]*\n")  # the end of one with something in it
_PARTED = re.compile(r"\S[^\S\n]*\n(\s*\n)")  # the same, and the blank lines after it
_CLOSED = re.compile(r"\n\s*\n[^\S\n]*\Z")  # a blank line at the very end


@dataclass(frozen=True)
class Query:
    """The tokens after a context, to be run alone.

    Attributes:
        ids: what runs: the kept tokens, then the query.
        positions: their places in the prompt, which they keep; None: they count from 0, as they
            will for whoever runs the query without ever having seen the context.
        rows: for how many of the last tokens the patch is made.
        context: how many tokens of the prompt are left out.
        kept: how many special tokens at the prompt's begin, such as BOS, stay. Without one the
            query's first token would become what attention rests on, and the patch would hold that.
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
    kept: int | None = None,
) -> Query:
    """The query of a prompt.

    Args:
        before: how many tokens come before the query, special ones at the begin included.
        rows: how many of the last tokens count; None: all of the query.
        keep_positions: see `Query.positions`.
        kept: how many tokens at the begin stay; None: the special ones, up to one that the query
            begins with itself, as each message of a chat does.

    Raises:
        ValueError: the context or the query is empty.
    """
    if before >= len(prompt):
        raise ValueError("there is no query after the context")
    if kept is None:
        own = prompt.ids[before]
        start = zip(prompt.ids[: max(before, 0)], prompt.special, strict=False)
        kept = sum(1 for _ in takewhile(lambda token: token[1] and token[0] != own, start))
    if before <= kept:
        raise ValueError("there is no context before the query")
    places = (*range(kept), *range(before, len(prompt)))
    return Query(
        ids=tuple(prompt.ids[place] for place in places),
        positions=places if keep_positions else None,
        rows=len(prompt) - before if rows is None else rows,
        context=before - kept,
        kept=kept,
    )


def last_line(labels: Sequence[str]) -> int | None:
    """How many tokens come before the last line of a prompt; None if it has only one line.

    A line end at the very end belongs to the last line.
    """
    ends = [place for place, label in enumerate(labels[:-1]) if "\n" in label]
    return ends[-1] + 1 if ends else None


def example_ends(labels: Sequence[str], start: int, before: int) -> tuple[int, ...]:
    """How many tokens there are up to the end of each example of a context.

    An example is what stands between blank lines, if these part the context into several pieces;
    else as many lines as the query has, if the context is made of so many and so many; else a line.
    Blank lines belong to the example before them if the context ends with one, otherwise to the one
    after them, so that the query follows each prefix as it follows the whole context.

    Args:
        labels: of the prompt's tokens, the query's among them.
        start, before: where the context begins and ends, in tokens.
    """
    text = "".join(labels[start:before])
    closed = _CLOSED.search(text) is not None
    parted = [found.end(1) if closed else found.start(1) for found in _PARTED.finditer(text)]
    cuts = [cut for cut in parted if text[cut:].strip()]
    if not cuts:
        lines = [found.end() for found in _LINE.finditer(text)]
        cuts = [cut for cut in lines if text[cut:].strip()]
        asked = max(_lines("".join(labels[before:])), 1)
        cuts = cuts[asked - 1 :: asked] if _lines(text) % asked == 0 else cuts
    reached = list(accumulate(map(len, labels[start:before])))  # characters after each token
    ends = (start + bisect_left(reached, cut) + 1 for cut in cuts)
    return (*dict.fromkeys(end for end in ends if end < before), before)


def _lines(text: str) -> int:
    return sum(1 for line in text.split("\n") if line.strip())


def tokens_before(spans: Sequence[tuple[int, int]], characters: int) -> int:
    """How many tokens lie within the first characters of a text as a whole.

    A token that goes on beyond them belongs to what follows.
    """
    return sum(1 for _ in takewhile(lambda span: span[1] <= characters, spans))
