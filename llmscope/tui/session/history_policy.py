"""Decides which texts of the editor were prompts, and which mere steps of typing."""

from __future__ import annotations

from llmscope.support.text import shared_length

STAY = 3.0
"""Seconds after which an unchanged text counts as looked at, unless it is only typed further."""
BRIEF = 0.5
"""Seconds for which a replaced text must have stood to be kept; those that undo passes through
quickly do not."""


class HistoryPolicy:
    """Observes every change, and decides which text was a prompt.

    In a shell the enter key ends a prompt; here every letter counts at once. A text was a prompt if
    something was done with its figures, if it stood for a while and was not only typed further, or
    if one change removed most of it.

    Args:
        text: the current text.
        now: seconds of a monotonic clock.
    """

    def __init__(self, text: str, now: float) -> None:
        self._text, self._since = text, now
        self._edited = self._worked = False

    def worked(self) -> None:
        """Take an action on the figures of the current text: a cursor move, a view, an edit."""
        self._worked = True

    def changed(self, text: str, now: float) -> str | None:
        """Take a changed text; return the previous one if it was a prompt, else None."""
        if text == self._text:
            return None
        old, stood, worked = self._text, now - self._since, self._worked
        self._text, self._since, self._edited, self._worked = text, now, True, False
        looked_at = stood >= STAY and not text.startswith(old)
        was = worked or looked_at or (stood >= BRIEF and replaced(old, text))
        return old if was and old.strip() else None

    def left(self, now: float) -> str | None:
        """Return the last text if it was edited or looked at, else None."""
        was = self._edited or self._worked or now - self._since >= STAY
        return self._text if was and self._text.strip() else None


def replaced(old: str, new: str) -> bool:
    """Return whether a change removed half of a text or more, and more than one letter."""
    before = shared_length(old, new)
    after = shared_length(old[before:][::-1], new[before:][::-1])
    gone = len(old) - before - after
    return gone > 1 and 2 * gone >= len(old)
