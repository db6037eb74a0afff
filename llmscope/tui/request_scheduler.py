"""Decides when the engine is asked for figures, and when those on screen count as out of date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PATIENCE = 0.15
"""Seconds a figure may be out of date before its title says so; quick passes take less."""
SETTLING = 0.4
"""Seconds without a change to the text or an edit's strength before a sweep is run."""
FADING = 0.6
"""Seconds after which an out-of-date figure is dimmed too, which resends all of its cells."""


class Timer(Protocol):
    """A timer that was started."""

    def stop(self) -> None:
        """Cancel the timer."""


class ScheduledScreen(Protocol):
    """What the scheduler needs of the app."""

    @property
    def waiting(self) -> bool:
        """Whether any pane shows something other than what was requested last."""

    @property
    def generating(self) -> bool:
        """Whether the model generates token after token, so that figures are always one behind."""

    def ask(self) -> object:
        """Request the figures that the screen shows now, unless they were requested already."""

    def drop_requests(self) -> None:
        """Drop the pending requests: the text has changed."""

    def present(self) -> None:
        """Draw the state of the screen."""


class RequestScheduler:
    """The timers between a change on the screen and the request for its figures.

    A change asks at once, with three exceptions: on a slow link a letter waits for a pause in
    typing; a change of an edit's strength waits for the running pass to land; and sweeps, which
    take many passes, wait until text and strengths have not changed for `SETTLING` seconds.

    Args:
        screen: what is asked to request and to draw.
        set_timer: starts a timer: seconds, and the function that it calls once.

    Attributes:
        late: whether figures that are out of date are marked.
        dim: whether they are dimmed too.
        running: whether a pass takes longer than `PATIENCE`.
        changing_strength: whether an edit's strength is changing, so that the status text waits for
            the next pass.
    """

    def __init__(
        self, screen: ScheduledScreen, set_timer: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._screen, self._set_timer = screen, set_timer
        self.late = self.dim = self.running = self.changing_strength = False
        self._asks_again = False
        self._overdue: Timer | None = None
        self._pause: Timer | None = None
        self._settling: Timer | None = None

    @property
    def sweeps(self) -> bool:
        """Whether figures that take many passes may be requested."""
        return self._settling is None

    @property
    def unsettled(self) -> bool:
        """Whether it is about to ask for more, or to mark an answer as late."""
        waits = (self._overdue, self._pause, self._settling)
        return self._asks_again or any(timer is not None for timer in waits)

    def moved(self, *, patiently: bool) -> None:
        """Ask for the figures of another place of the cursor.

        Args:
            patiently: let a running pass land first, as for a strength that a held key changes.
                Otherwise the key would cancel one pass after the other, and nothing would show
                until its release.
        """
        self.changing_strength = patiently
        if patiently:
            self.settle()
        if patiently and self._screen.waiting:
            self._asks_again = True
        else:
            self._screen.ask()

    def typed(self, pause: float) -> None:
        """Ask for the figures of another text, after `pause` seconds without a change."""
        self.settle()
        if self._pause is not None:
            self._pause.stop()
        if pause:
            self._screen.drop_requests()
            self.expect()
            self._pause = self._set_timer(pause, self._paused)
        else:
            self._screen.ask()

    def request_sent(self) -> None:
        """Cancel the request that waits for the running pass: it is made now."""
        self._asks_again = False

    def cancel(self) -> None:
        """Ask for nothing more until something changes."""
        for timer in (self._pause, self._settling):
            if timer is not None:
                timer.stop()
        self._pause = self._settling = None
        self._asks_again = False

    def settle(self) -> None:
        """Hold back sweeps until nothing has changed for a while: each letter would start one."""
        if self._settling is not None:
            self._settling.stop()
        self._settling = self._set_timer(SETTLING, self._settled)

    def expect(self) -> None:
        """Mark the figures as out of date if the new ones take long."""
        if self._overdue is None:
            self._overdue = self._set_timer(PATIENCE, self._is_overdue)

    def finish(self, *, late: bool) -> None:
        """Stop waiting: all figures landed, or (`late`) some never will."""
        if self._overdue is not None:
            self._overdue.stop()
        self._overdue, self.late, self.dim, self.running = None, late, late, False
        if self._asks_again:
            self._screen.ask()
        else:
            self.changing_strength = False
        self._screen.present()

    def _settled(self) -> None:
        self._settling = None
        if self._pause is None:  # otherwise `_paused` asks for everything, sweeps too
            self._screen.ask()

    def _paused(self) -> None:
        self._pause = None
        self._screen.ask()

    def _is_overdue(self) -> None:
        self._overdue = None
        waiting = self._screen.waiting and not self._screen.generating
        self.dim = waiting and self.late
        self.late = self.running = waiting
        if waiting and not self.dim:
            self._overdue = self._set_timer(FADING - PATIENCE, self._is_overdue)
        self._screen.present()
