"""Which of the texts that stood in the editor were prompts, and which mere steps of typing."""

from __future__ import annotations

from llmscope.text import shared_length

STAY = 3.0
"""Seconds after which a text that stood was looked at."""
BRIEF = 0.5
"""Seconds that a text stood at least which is kept because another one took its place: what one
flies past with undo did not."""


class HistoryPolicy:
    """Hears of every change, and says which text was a prompt.

    A shell knows it by the enter key; here every letter counts at once. A text was a prompt if it
    stood for a while, or if most of it went away with one change: that was no typing.

    Args:
        text: what stands there.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, text: str, now: float) -> None:
        self._text, self._since = text, now
        self._edited = False

    def changed(self, text: str, now: float) -> str | None:
        """Another text stands there; the one before, if it was a prompt."""
        if text == self._text:
            return None
        old, stood = self._text, now - self._since
        self._text, self._since, self._edited = text, now, True
        was = stood >= STAY or (stood >= BRIEF and replaced(old, text))
        return old if was and old.strip() else None

    def left(self, now: float) -> str | None:
        """The end: the text that stands there, if it was written here or looked at."""
        was = self._edited or now - self._since >= STAY
        return self._text if was and self._text.strip() else None


def replaced(old: str, new: str) -> bool:
    """Whether most of a text went away, and more than a letter: half of it, or more."""
    before = shared_length(old, new)
    after = shared_length(old[before:][::-1], new[before:][::-1])
    gone = len(old) - before - after
    return gone > 1 and 2 * gone >= len(old)
