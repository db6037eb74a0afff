"""The exception whose message is shown to the user."""

from __future__ import annotations

from llmscope.text import one_line

LONGEST = 1000
"""Maximum characters of a message or a hint, which may quote text of any length."""


class ScopeError(Exception):
    """An error that the user can act on: one line that says what is wrong, and what to try.

    The command line prints it as `error: … (try: …)` and exits with 1; the TUI shows a notice.
    Text longer than LONGEST is shortened in the middle.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = (
            one if len(one) <= LONGEST else one_line(one, LONGEST) for one in (message, hint)
        )
        super().__init__(message)
        self.message = message
        self.hint = hint


class OutOfMemory(ScopeError):  # noqa: N818 - torch has an OutOfMemoryError
    """Memory ran out in a pass or a lens; a shorter prompt may fit."""
