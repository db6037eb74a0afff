"""Find the role spans of a text that follows a chat template, by rendering the template.

A template is rendered for short conversations of made-up words. The text that it writes before,
between and after them are the marks of its roles, which are then searched for in other texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

ROLES = ("user", "assistant", "system")
"""The roles to find. If a template writes the same mark for two roles, the first one gets it."""

Render = Callable[[Sequence[tuple[str, str]], bool], "str | None"]
"""Renders (role, content) pairs, and whether the assistant is next, to text; None if rejected."""

_SHAPES = (
    ("user",),
    ("user", "assistant"),
    ("user", "assistant", "user"),
    ("user", "assistant", "user", "assistant"),
    ("system", "user"),
    ("system", "user", "assistant"),
)


class RoleSpan(NamedTuple):
    """The span of one role's content in the text, in characters, without the template's marks."""

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class ChatMarks:
    """The text that a template writes around each role's content, learned by rendering.

    Attributes:
        openings: mark -> the role whose content starts after it, anywhere in the text.
        closings: role -> mark that ends its content -> the role that starts then, or None.
        bare: the first message has no mark before it, so that it starts with the text.
    """

    openings: Mapping[str, str] = field(default_factory=dict)
    closings: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    bare: bool = False

    def roles(self, text: str) -> tuple[RoleSpan, ...]:
        """Return the role spans in order; empty for a text that does not follow the template.

        A span that is not closed extends to the end of the text, and may be empty.
        """
        spans: list[RoleSpan] = []
        role: str | None = "user" if self.bare else None
        begun = at = marks = 0
        while True:
            known: Mapping[str, str | None] = self.openings
            if role is not None:
                known = {**self.openings, **self.closings.get(role, {})}
            match = _pattern(frozenset(known)).search(text, at) if known else None
            if match is None:
                break
            if role is not None:
                spans.append(RoleSpan(begun, match.start(), role))
            role, begun, at = known[match.group()], match.end(), match.end()
            marks += 1
        if role is not None:
            spans.append(RoleSpan(begun, len(text), role))
        return tuple(spans) if marks else ()


@lru_cache(maxsize=64)
def _pattern(marks: frozenset[str]) -> re.Pattern[str]:
    """Return a pattern that finds the earliest mark, preferring the longest at one position."""
    ordered = sorted(marks, key=lambda mark: (-len(mark), mark))
    return re.compile("|".join(map(re.escape, ordered)))


def learn(render: Render) -> ChatMarks:
    """Learn the marks of a template.

    Args:
        render: renders the template. Roles that it rejects, such as system, are left out.
    """
    before: dict[str, set[str]] = {role: set() for role in ROLES}
    between: dict[tuple[str, str], set[str]] = {}
    after: dict[str, set[str]] = {role: set() for role in ROLES}
    for shape in _SHAPES:
        for with_prompt in (False, True):
            pieces = _pieces(render, shape, with_prompt)
            if pieces is None:
                continue
            before[shape[0]].add(pieces[0])
            for pair, gap in zip(pairwise(shape), pieces[1:-1], strict=True):
                between.setdefault(pair, set()).add(gap)
            if not with_prompt:
                after[shape[-1]].add(pieces[-1])
            elif shape[-1] == "user":
                between.setdefault(("user", "assistant"), set()).add(pieces[-1])
    if not any(_tells(gap) for gap in between.get(("system", "user"), ())):
        # No mark separates the system message from the user's, so its end cannot be found.
        before["system"] = set()
        between = {pair: gaps for pair, gaps in between.items() if pair[0] != "system"}
    before["user"] = {
        piece for piece in before["user"] if not _holds_default(piece, before, between)
    }
    return _marks(before, between, after)


def _pieces(render: Render, shape: Sequence[str], with_prompt: bool) -> list[str] | None:
    """Return the text before, between and after a conversation's contents; None if rejected."""
    words = [f"q{role}x{index}z" for index, role in enumerate(shape)]
    text = render(list(zip(shape, words, strict=True)), with_prompt)
    if text is None or any(text.count(word) != 1 for word in words):
        return None
    pieces = re.split("|".join(words), text)
    in_order = [text.index(word) for word in words]
    return pieces if in_order == sorted(in_order) else None


def _tells(mark: str) -> bool:
    """Return whether a mark is recognizable: white space alone also occurs in contents."""
    return bool(mark.strip())


def _holds_default(
    opening: str, before: Mapping[str, set[str]], between: Mapping[tuple[str, str], set[str]]
) -> bool:
    """Return whether a first user message's opening includes a default system message."""
    gaps = between.get(("system", "user"), set())
    return any(
        opening.startswith(head) and opening.endswith(gap) and len(head) + len(gap) <= len(opening)
        for head in before["system"]
        for gap in gaps
        if _tells(head) and _tells(gap)
    )


def _marks(
    before: Mapping[str, set[str]],
    between: Mapping[tuple[str, str], set[str]],
    after: Mapping[str, set[str]],
) -> ChatMarks:
    openings: dict[str, str] = {}
    closings: dict[str, dict[str, str | None]] = {role: {} for role in ROLES}
    for role in ROLES:
        for mark in sorted(before[role]):
            if _tells(mark):
                openings.setdefault(mark, role)
    for role in ROLES:
        for (first, then), gaps in between.items():
            for gap in sorted(gaps):
                if then != role or not _tells(gap):
                    continue
                closings[first].setdefault(gap, role)
                # A gap without the end mark of the role before it is this role's opening.
                ends = [end for end in after[first] if gap.startswith(end)]
                head = gap[len(max(ends, key=len)) :] if ends else ""
                if _tells(head):
                    openings.setdefault(head, role)
    for role in ROLES:
        for end in after[role]:
            if _tells(end):
                closings[role].setdefault(end, None)
    closings = {role: ends for role, ends in closings.items() if ends}
    # If a template has no opening mark and supports a system message, the first role is unknown.
    marked = any(map(_tells, before["user"])) or "user" not in closings
    return ChatMarks(openings, closings, bare=not marked and not before["system"])
