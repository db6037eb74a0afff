"""Notifications that close by themselves, never block the screen, and lie over the panes alone."""

from __future__ import annotations

from typing import Any

from textual.containers import Container
from textual.geometry import Region
from textual.notifications import Notification
from textual.screen import Screen
from textual.widgets import Input
from textual.widgets._toast import Toast

SHORTEST = 0.05
"""Minimum time in seconds that a notice is shown, however late it is mounted."""
LOGGED = 200
"""Number of notices that the message log keeps."""
WIDTH, FRAME = 60, 3
"""Maximum width of a notice in cells, and how many of them are border and padding."""
RACK = "#textual-toastrack"
"""Where Textual shows the notices of a screen."""


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


def place_notices(screen: Screen[Any], panes: Region) -> None:
    """Keep the notices of a screen to the place of the panes, and off a dialog's input line.

    Args:
        screen: the screen that shows the notices.
        panes: the place of the panes, between the prompt and the two lines at the bottom.
    """
    top, bottom = panes.y, panes.bottom
    if len(screen.app.screen_stack) > 1:
        for line in screen.query(Input):
            if line.region.y < screen.size.height / 2:
                top = max(top, line.region.bottom)
            else:
                bottom = min(bottom, line.region.y - 1)  # a line is labelled above
    room, width = max(0, bottom - top), min(screen.size.width, WIDTH)
    for rack in screen.query(RACK):
        rack.styles.margin = (0, 0, max(0, screen.size.height - bottom), 0)
        rack.styles.max_height = room
        left = room
        for notice in reversed(list(rack.query(Toast))):
            rows = len(notice.render().wrap(max(1, width - FRAME)))
            holder = notice.parent if isinstance(notice.parent, Container) else notice
            # Where not all have room, the newest stay; one that is too tall shows its beginning.
            holder.display = rows <= left or left == room
            left -= rows if holder.display else left
            notice.styles.width, notice.styles.max_height = width, max(1, room)
