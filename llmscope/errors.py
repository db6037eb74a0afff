"""The one exception that is meant for a person."""

from __future__ import annotations

from llmscope.text import one_line

LONGEST = 1000
"""Characters of a message or a hint: what it quotes may be of any length."""


class ScopeError(Exception):
    """Something a person can act on: one line that says what is wrong, and what to try.

    The command line prints it as `error: … (try: …)` and exits with 1; the screen shows a notice.
    What is longer than LONGEST loses its middle.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = (
            one if len(one) <= LONGEST else one_line(one, LONGEST) for one in (message, hint)
        )
        super().__init__(message)
        self.message = message
        self.hint = hint
