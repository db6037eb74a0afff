"""A line `---` in the prompt: what stands before it is a context, what follows is the query.

The model is never given the line. It is a mark only where it is the one such line of the prompt
and there is something on both sides of it; in a text that has several they are part of the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.engine.events import Token

MARK = "---\n"


@dataclass(frozen=True)
class Marked:
    """A prompt without its mark.

    Attributes:
        text: what the model is given.
        cut: how many characters of it are the context; None: no context is marked off.
    """

    text: str
    cut: int | None = None

    @property
    def written(self) -> str:
        """The text with its mark, as it stands in the editor."""
        return (
            self.text if self.cut is None else self.text[: self.cut] + MARK + self.text[self.cut :]
        )

    def in_editor(self, tokens: Iterable[Token]) -> tuple[Token, ...]:
        """The tokens at their places in the editor's text."""
        cut = self.cut
        if cut is None:
            return tuple(tokens)
        return tuple(
            replace(
                token,
                start=token.start + len(MARK) * (token.start >= cut),
                end=token.end + len(MARK) * (token.end > cut),
            )
            for token in tokens
        )


@lru_cache(maxsize=8)
def marked(written: str) -> Marked:
    """The prompt that the editor's text stands for."""
    places = [
        at
        for at in _line_starts(written)
        if written.startswith(MARK, at) and 0 < at < len(written) - len(MARK)
    ]
    if len(places) != 1:
        return Marked(written)
    cut = places[0]
    return Marked(written[:cut] + written[cut + len(MARK) :], cut)


def context_end(written: str) -> int | None:
    """Where the mark stands in the editor's text; None: nowhere."""
    return marked(written).cut


def toggled(written: str, place: int) -> str:
    """The text with the mark taken out; or put in, after the line that a place is in."""
    found = marked(written)
    if found.cut is not None:
        return found.text
    end = written.find("\n", max(place - 1, 0))
    if end < 0 or not written[: end + 1].strip() or end + 1 >= len(written):
        return written
    return Marked(written, end + 1).written


def _line_starts(text: str) -> Iterable[int]:
    at = 0
    while at >= 0:
        yield at
        at = text.find("\n", at) + 1 or -1
