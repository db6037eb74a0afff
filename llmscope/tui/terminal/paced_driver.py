"""The way to the terminal: what has changed goes out, and only as fast as it is taken.

Textual puts every frame into a queue that a thread writes from, and where the queue is full the
event loop waits: on a slow link the screen would lag behind by all of it, and letters with it.
Here nothing is queued. While the terminal has not taken what it was sent, frames change the
mirror alone; once it has, the newest state goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import RenderableType
from textual._compositor import CompositorUpdate
from textual.app import App
from textual.driver import Driver

from llmscope.tui.terminal.bandwidth import LOW, Bandwidth
from llmscope.tui.terminal.cell_diff import TerminalCells

if TYPE_CHECKING:
    from textual.screen import Screen

SYNC = ("\x1b[?2026h", "\x1b[?2026l")
"""Between these, a terminal that knows them shows nothing half done."""


class PacedApp(App[int]):
    """An app that sends the terminal what has changed, at the rate at which it is taken."""

    def __init__(self, bandwidth: Bandwidth) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.mirror = TerminalCells()
        if bandwidth is LOW:
            self.animation_level = "none"

    def get_driver_class(self) -> type[Driver]:
        """The driver of this platform, which knows when the terminal has taken what it was sent."""
        driver: type[Driver] = super().get_driver_class()
        return driver if hasattr(driver, "behind") else paced(driver)

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if not isinstance(renderable, CompositorUpdate) or not hasattr(self._driver, "behind"):
            super()._display(screen, renderable)
            return
        if self._running and not self._closed and not self._batch_count:
            self.mirror.take(renderable, self.console._color_system)
            self.send()
        self.post_display_hook()

    def send(self) -> None:
        """Send what has changed, unless the terminal is still busy with what was sent before."""
        driver: Any = self._driver
        if driver is None or not self._running or self._closed or driver.behind:
            return
        place = self.cursor_position
        changes = self.mirror.changes(near=place.y, limit=self.bandwidth.chunk)
        if changes or place != self._previous_cursor_position:
            self._previous_cursor_position = place
            begin, end = SYNC if self._sync_available else ("", "")
            driver.write(f"{begin}{changes}\x1b[{place.y + 1};{place.x + 1}H{end}")

    def send_all(self) -> None:
        """Send all that should be shown: the terminal may show anything."""
        self.mirror.forget()
        if self.mirror.waiting:
            self.send()


class TellingFile:
    """The terminal as the writing thread sees it: it tells how many texts the terminal took."""

    def __init__(self, file: TextIO, told: Callable[[int], None]) -> None:
        self._file, self._told, self._writes = file, told, 0

    def write(self, text: str) -> int:
        """Write a text."""
        self._writes += 1
        return self._file.write(text)

    def flush(self) -> None:
        """Write what is kept back, and tell."""
        self._file.flush()
        self._told(self._writes)

    def fileno(self) -> int:
        """The terminal's descriptor."""
        return self._file.fileno()


@cache
def paced(base: Any) -> Any:
    """A driver of Textual's with an ear for the thread that writes."""

    class PacedDriver(base):  # type: ignore[misc]
        """Counts what it sends and what the terminal has taken."""

        _file: Any

        def __init__(self, app: PacedApp, **options: Any) -> None:
            super().__init__(app, **options)
            self._terminal = self._file
            self._sent = self._taken = 0

        @property
        def behind(self) -> bool:
            """Whether the terminal has not taken all of what it was sent."""
            return bool(self._taken < self._sent)

        def write(self, data: str) -> None:
            """Send to the terminal."""
            self._sent += 1
            super().write(data)

        def start_application_mode(self) -> None:
            """Take the terminal, at first or again; nobody knows what it shows."""
            self._sent = self._taken = 0
            self._file = TellingFile(self._terminal, self._told)
            self._app.mirror.forget()
            super().start_application_mode()

        def _told(self, writes: int) -> None:
            self._taken = writes
            with suppress(RuntimeError):  # the loop has ended before the thread that writes
                self._loop.call_soon_threadsafe(self._app.send)

    return PacedDriver
