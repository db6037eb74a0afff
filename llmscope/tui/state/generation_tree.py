"""The tokens that a model generated after a text, and their branches, as frozen values.

Nothing here depends on a widget or a model. A branch is never cut: taking tokens back only lowers
a count, so that what was generated can always be restored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmscope.support.text import shared_length

Span = tuple[int, int]
End = tuple[int, str]


@dataclass(frozen=True)
class Branch:
    """Tokens that were generated one after the other.

    Attributes:
        ids: the tokens.
        text: the text of all tokens together.
        ends: the text of each prefix: for 0 tokens up to all, a number of characters of `text`,
            and what follows them while a character is incomplete.
        stream: the number of its random stream; another stream samples other tokens.
        fork: number of tokens after which the user left another branch for this one; None if the
            branch was not forked.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    ends: tuple[End, ...] = ((0, ""),)
    stream: int = 0
    fork: int | None = None

    def text_of(self, count: int) -> str:
        """Return the text of the first `count` tokens."""
        end, rest = self.ends[count]
        return self.text[:end] + rest

    def whole(self, count: int) -> bool:
        """Return whether the first `count` tokens end with a complete character."""
        return not self.ends[count][1]

    @property
    def holds_together(self) -> bool:
        """Whether there is an end for each prefix, within the text: a stored branch may be foreign.

        Without it the text of a prefix would not be known.
        """
        inside = all(0 <= end <= len(self.text) for end, _ in self.ends)
        plain = self.stream >= 0 and all(token >= 0 for token in self.ids)
        fork_fits = self.fork is None or 0 <= self.fork <= len(self.ids)
        return inside and plain and fork_fits and len(self.ends) == len(self.ids) + 1

    def with_token(self, token: int, text: str) -> Branch:
        """Return the branch with one more token; `text` is the text of all its tokens then."""
        shared = shared_length(self.text, text)
        return replace(
            self,
            ids=(*self.ids, token),
            text=text,
            ends=(*_clip_ends(self.ends, self.text, shared), (len(text), "")),
        )

    def cut(self, count: int) -> Branch:
        """Return the branch with only its first `count` tokens."""
        text = self.text_of(count)
        shared = self.ends[count][0]
        ends = (*_clip_ends(self.ends[:count], self.text, shared), (len(text), ""))
        return replace(self, ids=self.ids[:count], text=text, ends=ends)


def _clip_ends(ends: tuple[End, ...], text: str, shared: int) -> tuple[End, ...]:
    """Return the ends for another text that shares its first `shared` characters with `text`."""
    length = len(ends)
    while length and ends[length - 1][0] > shared:
        length -= 1
    moved = ((shared, text[shared:end] + rest) for end, rest in ends[length:])
    return (*ends[:length], *moved)


@dataclass(frozen=True)
class Branches:
    """The branches that were generated after one text.

    Attributes:
        base: the text before them, as the editor holds it.
        spans: the parts of that text which a model generated at other times.
        kept: the branches, in the order in which they were begun.
        at: index of the branch in the editor.
        count: how many of that branch's tokens are in the editor.
    """

    base: str
    spans: tuple[Span, ...] = ()
    kept: tuple[Branch, ...] = (Branch(),)
    at: int = 0
    count: int = 0

    @property
    def holds_together(self) -> bool:
        """Whether the branch and the count exist, and the branches hold together."""
        if not (0 <= self.at < len(self.kept) and 0 <= self.count <= len(self.branch.ids)):
            return False
        inside = all(0 <= start <= end <= len(self.base) for start, end in self.spans)
        return inside and all(branch.holds_together for branch in self.kept)

    @property
    def branch(self) -> Branch:
        """Return the branch in the editor, including the tokens that were taken back."""
        return self.kept[self.at]

    @property
    def generated_text(self) -> str:
        """Return the generated text in the editor after the base."""
        return self.branch.text_of(self.count)

    @property
    def text(self) -> str:
        """Return the text in the editor."""
        return self.base + self.generated_text

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the tokens that are in the editor after the base."""
        return self.branch.ids[: self.count]

    @property
    def marks(self) -> tuple[Span, ...]:
        """Return the parts of the text that a model generated."""
        start, end = len(self.base), len(self.text)
        return (*self.spans, (start, end)) if end > start else self.spans

    @property
    def tried_tokens(self) -> tuple[int, ...]:
        """Return the tokens that earlier branches have where the user forked this one."""
        if self.branch.fork != self.count:
            return ()
        others = (
            branch.ids for branch in self.kept[: self.at] if branch.ids[: self.count] == self.ids
        )
        return tuple(dict.fromkeys(ids[self.count] for ids in others if len(ids) > self.count))

    def with_token(self, token: int, text: str) -> Branches:
        """Return the branches with one more token; `text` is then all the generated text.

        Tokens that were taken back at this place stay, as a branch.
        """
        here, count = self.branch, self.count
        if count < len(here.ids) and here.ids[count] == token:
            return replace(self, count=count + 1)
        longer = here.cut(count).with_token(token, text)
        if count < len(here.ids):
            return self._with((*self.kept, longer), len(self.kept), count + 1)
        branches = (*self.kept[: self.at], longer, *self.kept[self.at + 1 :])
        return self._with(branches, self.at, count + 1)

    def back(self) -> Branches:
        """Return the branches without the last token, and all tokens that share its character."""
        count = max(0, self.count - 1)
        while count and not self.branch.whole(count):
            count -= 1
        return replace(self, count=count)

    def with_new_branch(self, count: int) -> Branches:
        """Return the branches with a new one in the editor, forked after `count` tokens."""
        here = self.branch
        if here.fork == count == len(here.ids):
            return replace(self, count=count)
        stream = max(branch.stream for branch in self.kept) + 1
        begun = replace(here.cut(count), stream=stream, fork=count)
        return self._with((*self.kept, begun), len(self.kept), count)

    def with_next_branch(self, by: int) -> Branches:
        """Return the branches with the branch `by` places further in the editor, in a circle."""
        at = (self.at + by) % len(self.kept)
        return replace(self, at=at, count=len(self.kept[at].ids))

    def at_text(self, text: str) -> Branches | None:
        """Return the branches with `text` in the editor; None if no branch begins so."""
        if not text.startswith(self.base):
            return None
        if text == self.text:
            return self
        rest = text[len(self.base) :]
        for at in dict.fromkeys((self.at, *range(len(self.kept)))):
            branch = self.kept[at]
            for count in range(len(branch.ids), -1, -1):
                end, partial = branch.ends[count]
                if end + len(partial) == len(rest) and branch.text_of(count) == rest:
                    return replace(self, at=at, count=count)
        return None

    def _with(self, branches: tuple[Branch, ...], at: int, count: int) -> Branches:
        return replace(self, kept=branches, at=at, count=count)


def moved(spans: tuple[Span, ...], old: str, new: str) -> tuple[Span, ...]:
    """Return the places of parts of `old` in `new`, without what was changed."""
    shared = shared_length(old, new)
    room = min(len(old), len(new)) - shared
    after = min(room, shared_length(old[shared:][::-1], new[shared:][::-1]))
    until, by = len(old) - after, len(new) - len(old)
    pieces = [
        *((start, min(end, shared)) for start, end in spans),
        *((max(start, until) + by, end + by) for start, end in spans),
    ]
    return tuple(sorted((start, end) for start, end in pieces if start < end))
