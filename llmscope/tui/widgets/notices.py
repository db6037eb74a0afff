"""Notices that go by themselves, and never hold the screen up."""

from __future__ import annotations

from textual.notifications import Notification

SHORTEST = 0.05
"""Seconds that a notice is up at least, however late it got there."""


class Notice(Notification):
    """A notice whose time is never over before it is on the screen.

    Textual sets a timer for what is left by the clock on the wall. Where that is less than
    nothing, after a stop, a sleep or a step of the clock, its timer would count for ever.
    """

    @property
    def time_left(self) -> float:
        """Seconds for which it is still to be shown."""
        return max(SHORTEST, super().time_left)

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return super().time_left <= 0
