"""Notifications that close by themselves and never block the screen."""

from __future__ import annotations

from textual.notifications import Notification

SHORTEST = 0.05
"""Minimum time in seconds that a notice is shown, however late it is mounted."""


class Notice(Notification):
    """A notification that never expires before it is on the screen.

    Textual sets a timer for the time left by the wall clock. If that is negative (the process was
    stopped, the machine slept, or the clock was set), its timer would never end.
    """

    @property
    def time_left(self) -> float:
        """Remaining display time in seconds, at least `SHORTEST`."""
        return max(SHORTEST, super().time_left)

    @property
    def has_expired(self) -> bool:
        """Whether its display time is over."""
        return super().time_left <= 0
