"""A line `---` in the prompt, which separates a context from the query after it.

The model never sees the line. It is a mark only if it is the one such line of the prompt and has
text on both sides; in a prompt with several such lines they are part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmscope.engine.events import Token

MARK = "---\n"
_PARTS = re.compile(r"<(?:think(?:ing)?>|(?:doc|document|passage|source|chunk)\b)", re.IGNORECASE)
_NUMBERED = re.compile(r"^[^\S\n]*\[\d+\]", re.MULTILINE)
"""How a numbered passage begins."""


@dataclass(frozen=True)
class Marked:
    """A prompt without its mark.

    Attributes:
        text: the prompt that the model is given.
        cut: the length of the context in characters; None if no context is marked off.
    """

    text: str
    cut: int | None = None

    @property
    def written(self) -> str:
        """Return the text with its mark, as the editor holds it."""
        return (
            self.text if self.cut is None else self.text[: self.cut] + MARK + self.text[self.cut :]
        )

    def in_editor(self, tokens: Iterable[Token]) -> tuple[Token, ...]:
        """Return the tokens with their places in the editor's text."""
        cut = self.cut
        if cut is None:
            return tuple(tokens)
        return tuple(
            token._replace(
                start=token.start + len(MARK) * (token.start >= cut),
                end=token.end + len(MARK) * (token.end > cut),
            )
            for token in tokens
        )


@lru_cache(maxsize=8)
def marked(written: str) -> Marked:
    """Return the prompt for the editor's text."""
    places = [
        at
        for at in _line_starts(written)
        if written.startswith(MARK, at) and 0 < at < len(written) - len(MARK)
    ]
    if len(places) != 1:
        return Marked(written)
    cut = places[0]
    return Marked(written[:cut] + written[cut + len(MARK) :], cut)


@lru_cache(maxsize=8)
def has_parts(written: str) -> bool:
    """Return whether a text has a chain of thought, or passages before a question, marked off."""
    return _PARTS.search(written) is not None or len(_NUMBERED.findall(written)) > 1


def context_end(written: str) -> int | None:
    """Return the place of the mark in the editor's text; None without a mark."""
    return marked(written).cut


def toggled(written: str, place: int) -> str:
    """Remove the mark from a text, or insert one after the line that contains `place`."""
    prompt = marked(written)
    if prompt.cut is not None:
        return prompt.text
    end = written.find("\n", max(place - 1, 0))
    if end < 0 or not written[: end + 1].strip() or end + 1 >= len(written):
        return written
    return Marked(written, end + 1).written


def _line_starts(text: str) -> Iterable[int]:
    at = 0
    while at >= 0:
        yield at
        at = text.find("\n", at) + 1 or -1
