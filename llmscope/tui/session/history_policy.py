"""Decides which texts of the editor were prompts, and which mere steps of typing."""

from __future__ import annotations

from llmscope.text import shared_length

STAY = 3.0
"""Seconds after which an unchanged text counts as looked at."""
BRIEF = 0.5
"""Seconds for which a replaced text must have stood to be kept; those that undo passes through
quickly do not."""


class HistoryPolicy:
    """Observes every change, and decides which text was a prompt.

    In a shell the enter key ends a prompt; here every letter counts at once. A text was a prompt if
    it stood for a while, or if one change removed most of it: that was no typing.

    Args:
        text: the current text.
        now: seconds of a monotonic clock.
    """

    def __init__(self, text: str, now: float) -> None:
        self._text, self._since = text, now
        self._edited = False

    def changed(self, text: str, now: float) -> str | None:
        """Take a changed text; return the previous one if it was a prompt, else None."""
        if text == self._text:
            return None
        old, stood = self._text, now - self._since
        self._text, self._since, self._edited = text, now, True
        was = stood >= STAY or (stood >= BRIEF and replaced(old, text))
        return old if was and old.strip() else None

    def left(self, now: float) -> str | None:
        """Return the last text if it was edited or looked at, else None."""
        was = self._edited or now - self._since >= STAY
        return self._text if was and self._text.strip() else None


def replaced(old: str, new: str) -> bool:
    """Return whether a change removed half of a text or more, and more than one letter."""
    before = shared_length(old, new)
    after = shared_length(old[before:][::-1], new[before:][::-1])
    gone = len(old) - before - after
    return gone > 1 and 2 * gone >= len(old)
