"""Who speaks where in a text that follows a chat template: found by rendering, not by model.

A template is rendered for short conversations of made-up words. What it writes before, between
and after them are the marks of its roles, and the same marks are looked for in any other text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

ROLES = ("user", "assistant", "system")
"""The roles that are looked for. Where a template writes the same for two, the first has it."""

Render = Callable[[Sequence[tuple[str, str]], bool], "str | None"]
"""(role, content) pairs and whether the assistant is to speak next, to text; None if refused."""

_SHAPES = (
    ("user",),
    ("user", "assistant"),
    ("user", "assistant", "user"),
    ("user", "assistant", "user", "assistant"),
    ("system", "user"),
    ("system", "user", "assistant"),
)


class RoleSpan(NamedTuple):
    """What one role says: its place in the text, in characters, without the template's marks."""

    start: int
    end: int
    role: str


@dataclass(frozen=True)
class ChatMarks:
    """What a template writes around what is said. Plain text; nothing of it is known beforehand.

    Attributes:
        openings: text -> the role that speaks after it, wherever it stands.
        closings: role -> text that ends what it says -> who speaks then; None: nobody yet.
        bare: the first message has nothing before it, so that it begins where the text does.
    """

    openings: Mapping[str, str] = field(default_factory=dict)
    closings: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    bare: bool = False

    def roles(self, text: str) -> tuple[RoleSpan, ...]:
        """Who speaks where, in order; empty for a text that does not follow the template.

        What is being said when the text ends reaches to its end, and may be empty.
        """
        spans: list[RoleSpan] = []
        role: str | None = "user" if self.bare else None
        begun = at = marks = 0
        while True:
            known: Mapping[str, str | None] = self.openings
            if role is not None:
                known = {**self.openings, **self.closings.get(role, {})}
            found = _pattern(frozenset(known)).search(text, at) if known else None
            if found is None:
                break
            if role is not None:
                spans.append(RoleSpan(begun, found.start(), role))
            role, begun, at = known[found.group()], found.end(), found.end()
            marks += 1
        if role is not None:
            spans.append(RoleSpan(begun, len(text), role))
        return tuple(spans) if marks else ()


@lru_cache(maxsize=64)
def _pattern(marks: frozenset[str]) -> re.Pattern[str]:
    """Finds the earliest of the marks, and the longest of those that begin at one place."""
    ordered = sorted(marks, key=lambda mark: (-len(mark), mark))
    return re.compile("|".join(map(re.escape, ordered)))


def learn(render: Render) -> ChatMarks:
    """The marks of a template.

    Args:
        render: the template. What it refuses, such as a system message, is left out.
    """
    before: dict[str, set[str]] = {role: set() for role in ROLES}
    between: dict[tuple[str, str], set[str]] = {}
    after: dict[str, set[str]] = {role: set() for role in ROLES}
    for shape in _SHAPES:
        for asked in (False, True):
            pieces = _pieces(render, shape, asked)
            if pieces is None:
                continue
            before[shape[0]].add(pieces[0])
            for pair, gap in zip(pairwise(shape), pieces[1:-1], strict=True):
                between.setdefault(pair, set()).add(gap)
            if not asked:
                after[shape[-1]].add(pieces[-1])
            elif shape[-1] == "user":
                between.setdefault(("user", "assistant"), set()).add(pieces[-1])
    if not any(_tells(gap) for gap in between.get(("system", "user"), ())):
        # The system message runs into the user's: nobody could say where one ends.
        before["system"] = set()
        between = {pair: gaps for pair, gaps in between.items() if pair[0] != "system"}
    before["user"] = {one for one in before["user"] if not _holds_default(one, before, between)}
    return _marks(before, between, after)


def _pieces(render: Render, shape: Sequence[str], asked: bool) -> list[str] | None:
    """What the template writes before, between and after the contents of a conversation."""
    words = [f"q{role}x{index}z" for index, role in enumerate(shape)]
    text = render(list(zip(shape, words, strict=True)), asked)
    if text is None or any(text.count(word) != 1 for word in words):
        return None
    pieces = re.split("|".join(words), text)
    in_order = [text.index(word) for word in words]
    return pieces if in_order == sorted(in_order) else None


def _tells(mark: str) -> bool:
    """Whether a text can be recognised: white space occurs in what is said as well."""
    return bool(mark.strip())


def _holds_default(
    opening: str, before: Mapping[str, set[str]], between: Mapping[tuple[str, str], set[str]]
) -> bool:
    """Whether the template says something for the system before a user who comes first."""
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
                # Less the end of what came before it, a gap is how this role begins.
                ends = [end for end in after[first] if gap.startswith(end)]
                head = gap[len(max(ends, key=len)) :] if ends else ""
                if _tells(head):
                    openings.setdefault(head, role)
    for role in ROLES:
        for end in after[role]:
            if _tells(end):
                closings[role].setdefault(end, None)
    closings = {role: ends for role, ends in closings.items() if ends}
    # A template that marks no beginning and takes a system message does not say who begins.
    marked = any(map(_tells, before["user"])) or "user" not in closings
    return ChatMarks(openings, closings, bare=not marked and not before["system"])
