"""The one exception that is meant for a person."""

from __future__ import annotations


class ScopeError(Exception):
    """Something a person can act on: one line that says what is wrong, and what to try.

    The command line prints it as `error: … (try: …)` and exits with 1; the screen shows a notice.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
