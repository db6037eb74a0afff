"""Match the regular expressions of models and users, with limits on time and memory.

A pattern such as `(a+)+$` takes longer than the age of the universe on thirty letters, and Python
cannot interrupt it, nor run another thread meanwhile. So all but plain ones are matched in a child
process with limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache

from llmscope.support.sandbox import CallError, TimeLimitError, Worker

SECONDS = 5.0
LENGTH = 4000
"""Longest pattern; one that lists every module of a large model by name is about this long."""
SPANS = 100_000
"""Maximum matches in one text."""
_PLAIN = re.compile(r"[\w.-]*", re.ASCII)
_LITERAL = re.compile(r"(?:[^\\.^$*+?{}\[\]|()]|\\[nt])*")
"""Patterns without choices, which are matched in one pass."""


class PatternError(ValueError):
    """Raised for a pattern that is invalid, too long, or takes too long to match."""


def is_plain(pattern: str) -> bool:
    """Return whether a pattern is a plain name (letters, digits, dots, dashes): fast to match."""
    return len(pattern) <= LENGTH and _PLAIN.fullmatch(pattern) is not None


def check_pattern(pattern: str) -> None:
    """Raise a PatternError for what is no regular expression, or a very long one."""
    if len(pattern) > LENGTH:
        raise PatternError(f"it has {len(pattern):,} letters, more than {LENGTH:,}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError(str(error) or "it is nested too deeply") from None


def find_spans(pattern: str, text: str) -> list[tuple[int, int]]:
    """Return where a pattern matches in a text: begin and end of each match.

    Raises:
        PatternError: it is no pattern, takes too long, or matches too often.
        Cancelled: it was given up; see `llmscope.support.sandbox.give_up_when`.
    """
    check_pattern(pattern)
    if _LITERAL.fullmatch(pattern):
        return spans_of(pattern, text)
    try:
        spans = _worker().call("spans_of", pattern, text, seconds=SECONDS, interruptible=True)
    except TimeLimitError as error:
        raise PatternError(f"{pattern[:40]!r} takes too long to match") from error
    except CallError as error:
        raise PatternError(f"{pattern[:40]!r} cannot be matched: {error}") from error
    return [(start, end) for start, end in spans]


def matches(patterns: Sequence[str], names: Iterable[str]) -> list[list[str]]:
    """Return for each pattern the names that it matches with `re.fullmatch`.

    Raises:
        PatternError: a pattern is too long, cannot be matched, or takes too long.
    """
    for pattern in patterns:
        if len(pattern) > LENGTH * 8:
            raise PatternError(f"the pattern {pattern[:40]!r}… has {len(pattern)} letters")
    listed = list(names)
    try:
        hits_of_each = _worker().call("full_matches", list(patterns), listed, seconds=SECONDS)
    except TimeLimitError as error:
        raise PatternError(f"the pattern {patterns[0][:40]!r} takes too long to match") from error
    except CallError as error:
        raise PatternError(f"the pattern {patterns[0][:40]!r} cannot be matched") from error
    return [[listed[at] for at in hits] for hits in hits_of_each]


@cache
def _worker() -> Worker:
    return Worker("llmscope.models.files.foreign_patterns")


def full_matches(patterns: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Return for each pattern the indices of the names that it matches. Runs in the child."""
    compiled = [re.compile(pattern).fullmatch for pattern in patterns]
    return [[at for at, name in enumerate(names) if match(name)] for match in compiled]


def spans_of(pattern: str, text: str) -> list[tuple[int, int]]:
    """Return where a pattern matches in a text. Runs in the child, unless the pattern is literal.

    Raises:
        PatternError: it matches too often.
    """
    spans = []
    for match in re.finditer(pattern, text):
        spans.append(match.span())
        if len(spans) > SPANS:
            raise PatternError(f"it matches more than {SPANS:,} times")
    return spans
