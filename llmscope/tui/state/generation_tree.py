"""What a model wrote after a text, as frozen values: its tokens, and the branches they make.

Nothing here knows a widget or a model. A branch is never cut: to take tokens back only moves a
count, so that what was written can always be had again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmscope.text import shared_length

Span = tuple[int, int]
End = tuple[int, str]


@dataclass(frozen=True)
class Branch:
    """Tokens that were written one after the other.

    Attributes:
        ids: the tokens.
        text: what they say together.
        ends: what fewer of them say: for each number of tokens, from none to all, so many
            characters of `text`, and what follows them while a character is not whole yet.
        stream: which draws made it; another one draws other tokens.
        fork: where a person left another branch for this one: after so many tokens; None: nowhere.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    ends: tuple[End, ...] = ((0, ""),)
    stream: int = 0
    fork: int | None = None

    def said(self, count: int) -> str:
        """What the first tokens say."""
        end, rest = self.ends[count]
        return self.text[:end] + rest

    def whole(self, count: int) -> bool:
        """Whether the first tokens end with a whole character."""
        return not self.ends[count][1]

    def wrote(self, token: int, text: str) -> Branch:
        """With one more token, with which all of them say a text."""
        shared = shared_length(self.text, text)
        return replace(
            self,
            ids=(*self.ids, token),
            text=text,
            ends=(*_clipped(self.ends, self.text, shared), (len(text), "")),
        )

    def cut(self, count: int) -> Branch:
        """The first tokens alone."""
        text = self.said(count)
        shared = self.ends[count][0]
        ends = (*_clipped(self.ends[:count], self.text, shared), (len(text), ""))
        return replace(self, ids=self.ids[:count], text=text, ends=ends)


def _clipped(ends: tuple[End, ...], text: str, shared: int) -> tuple[End, ...]:
    """The same ends in another text, that shares so many characters with this one."""
    kept = len(ends)
    while kept and ends[kept - 1][0] > shared:
        kept -= 1
    moved = ((shared, text[shared:end] + rest) for end, rest in ends[kept:])
    return (*ends[:kept], *moved)


@dataclass(frozen=True)
class Branches:
    """What was written after one text.

    Attributes:
        base: the text before, as it stands in the editor.
        spans: what a model wrote of that, at other times.
        kept: the branches, in the order in which they were begun.
        at: the one that is in the editor.
        count: so many of its tokens are.
    """

    base: str
    spans: tuple[Span, ...] = ()
    kept: tuple[Branch, ...] = (Branch(),)
    at: int = 0
    count: int = 0

    @property
    def branch(self) -> Branch:
        """The one that is in the editor, with the tokens that were taken back."""
        return self.kept[self.at]

    @property
    def said(self) -> str:
        """What is in the editor after the base."""
        return self.branch.said(self.count)

    @property
    def text(self) -> str:
        """What is in the editor."""
        return self.base + self.said

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens that are in the editor after the base."""
        return self.branch.ids[: self.count]

    @property
    def marks(self) -> tuple[Span, ...]:
        """Which parts of the text a model wrote."""
        start, end = len(self.base), len(self.text)
        return (*self.spans, (start, end)) if end > start else self.spans

    @property
    def tried(self) -> tuple[int, ...]:
        """What earlier branches have where a person left them for this one."""
        if self.branch.fork != self.count:
            return ()
        others = (one.ids for one in self.kept[: self.at] if one.ids[: self.count] == self.ids)
        return tuple(dict.fromkeys(ids[self.count] for ids in others if len(ids) > self.count))

    def wrote(self, token: int, text: str) -> Branches:
        """One more token is in the editor; the written ones then say a text.

        Where others stood that were taken back, they stay, as a branch.
        """
        here, count = self.branch, self.count
        if count < len(here.ids) and here.ids[count] == token:
            return replace(self, count=count + 1)
        longer = here.cut(count).wrote(token, text)
        if count < len(here.ids):
            return self._with((*self.kept, longer), len(self.kept), count + 1)
        kept = (*self.kept[: self.at], longer, *self.kept[self.at + 1 :])
        return self._with(kept, self.at, count + 1)

    def back(self) -> Branches:
        """Without the last token; without all that make one character with it."""
        count = max(0, self.count - 1)
        while count and not self.branch.whole(count):
            count -= 1
        return replace(self, count=count)

    def forked(self, count: int) -> Branches:
        """Another branch after so many tokens: the next writing makes it. This one is kept."""
        here = self.branch
        if here.fork == count == len(here.ids):
            return replace(self, count=count)
        stream = max(one.stream for one in self.kept) + 1
        begun = replace(here.cut(count), stream=stream, fork=count)
        return self._with((*self.kept, begun), len(self.kept), count)

    def turned(self, by: int) -> Branches:
        """The next branch, whole; after the last one the first."""
        at = (self.at + by) % len(self.kept)
        return replace(self, at=at, count=len(self.kept[at].ids))

    def found(self, text: str) -> Branches | None:
        """The same with so much of a branch in the editor as makes a text; None: none does."""
        if not text.startswith(self.base):
            return None
        if text == self.text:
            return self
        rest = text[len(self.base) :]
        for at in dict.fromkeys((self.at, *range(len(self.kept)))):
            branch = self.kept[at]
            for count in range(len(branch.ids), -1, -1):
                end, more = branch.ends[count]
                if end + len(more) == len(rest) and branch.said(count) == rest:
                    return replace(self, at=at, count=count)
        return None

    def _with(self, kept: tuple[Branch, ...], at: int, count: int) -> Branches:
        return replace(self, kept=kept, at=at, count=count)


def moved(spans: tuple[Span, ...], old: str, new: str) -> tuple[Span, ...]:
    """Where parts of a text are in another one: what was changed is no longer of any part."""
    shared = shared_length(old, new)
    room = min(len(old), len(new)) - shared
    after = min(room, shared_length(old[shared:][::-1], new[shared:][::-1]))
    until, by = len(old) - after, len(new) - len(old)
    pieces = [
        *((start, min(end, shared)) for start, end in spans),
        *((max(start, until) + by, end + by) for start, end in spans),
    ]
    return tuple(sorted((start, end) for start, end in pieces if start < end))
