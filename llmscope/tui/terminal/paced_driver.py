"""Output to the terminal: only changes are sent, and only as fast as the terminal takes them.

Textual puts every frame into a queue that a thread writes from, and when the queue is full the
event loop waits: on a slow link the screen would lag by the whole queue, letters included. Here
nothing is queued. While the terminal has not taken its earlier output, frames only update the
`TerminalCells`; after that, the newest state is sent.

This stands on private parts of Textual, which another version may lack. Where one is missing, or
with `--bandwidth textual`, Textual sends its frames itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import RenderableType
from textual.app import App
from textual.driver import Driver

from llmscope.tui.terminal.bandwidth import LOW, Bandwidth
from llmscope.tui.terminal.input_thread import guard_driver

try:
    from textual._compositor import CompositorUpdate

    from llmscope.tui.terminal.cell_diff import TerminalCells

    PACED = True
except ImportError:
    PACED = False

if TYPE_CHECKING:
    from textual.screen import Screen

SYNC = ("\x1b[?2026h", "\x1b[?2026l")
"""Between these, a terminal that supports them shows no incomplete update."""


class PacedApp(App[int]):
    """An app that sends the terminal only changes, at the rate at which they are taken.

    Attributes:
        late_error: the first error after the app was asked to end; None if there was none.
    """

    def __init__(self, bandwidth: Bandwidth) -> None:
        self._paced = PACED and bandwidth.paced  # read by `get_driver_class`
        super().__init__()
        self.bandwidth = bandwidth
        self._asked_to_end = False
        self.late_error: Exception | None = None
        if self._paced:
            self.cells = TerminalCells()
        if bandwidth is LOW:
            self.animation_level = "none"

    def get_driver_class(self) -> type[Driver]:
        """Return the platform's driver, extended to know when the terminal has taken its output."""
        driver: type[Driver] = guard_driver(super().get_driver_class())
        return driver if hasattr(driver, "behind") or not self._paced else pace_driver(driver)

    @property
    def left(self) -> bool:
        """Whether the app was asked to end; if not, a failure ended it."""
        return self._exit or self._asked_to_end

    def on_exit_app(self) -> None:
        """Remember that the app was asked to end, as `exit` does and the driver of a page."""
        self._asked_to_end = True

    def _handle_exception(self, error: Exception) -> None:
        """Close the app with an error, unless it is closing: its widgets are gone one by one."""
        if self._exit:
            self.late_error = self.late_error or error
            self._close_messages_no_wait()
        else:
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        """Close the app, and render nothing: `stay` reports the error.

        Textual renders a traceback at the width of the terminal, which may be one column.
        """
        self._close_messages_no_wait()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if not self._paced or not isinstance(renderable, CompositorUpdate):
            super()._display(screen, renderable)
            return
        if not hasattr(self._driver, "behind"):  # there is no terminal
            super()._display(screen, renderable)
            return
        try:
            if self._running and not self._closed and not self._batch_count:
                self.cells.take(renderable, self.console._color_system)
                self.send()
        except (AttributeError, TypeError):  # another version of Textual
            self._paced = False
            self.refresh(layout=True)
            return
        self.post_display_hook()

    def send(self) -> None:
        """Send the changes, unless the terminal is still busy with its earlier output."""
        driver: Any = self._driver
        if not self._paced or driver is None or not self._running or self._closed or driver.behind:
            return
        place = self.cursor_position
        changes = self.cells.changes(near=place.y, limit=self.bandwidth.chunk)
        if changes or place != self._previous_cursor_position:
            self._previous_cursor_position = place
            begin, end = SYNC if self._sync_available else ("", "")
            driver.write(f"{begin}{changes}\x1b[{place.y + 1};{place.x + 1}H{end}")

    def send_all(self) -> None:
        """Send everything that should be shown: the terminal may show anything."""
        if not self._paced:
            self.refresh()
            return
        self.cells.forget()
        if self.cells.waiting:
            self.send()

    def shows(self, columns: int, rows: int) -> bool:
        """Return whether the screen was laid out for this size already."""
        return self._paced and self.cells.size == (columns, rows)


class TellingFile:
    """The terminal's file for the writing thread, which reports how many writes were taken."""

    def __init__(self, file: TextIO, tell: Callable[[int], None]) -> None:
        self._file, self._told, self._writes = file, tell, 0

    def write(self, text: str) -> int:
        """Write a text."""
        self._writes += 1
        return self._file.write(text)

    def flush(self) -> None:
        """Flush the file, and report the number of writes."""
        self._file.flush()
        self._told(self._writes)

    def fileno(self) -> int:
        """Return the terminal's descriptor."""
        return self._file.fileno()


@cache
def pace_driver(base: Any) -> Any:
    """Return a subclass of a Textual driver that tracks its writing thread."""

    class PacedDriver(base):  # type: ignore[misc]
        """Counts its writes, and those that the terminal has taken."""

        _file: Any

        def __init__(self, app: PacedApp, **options: Any) -> None:
            super().__init__(app, **options)
            self._terminal = self._file
            self._sent = self._taken = 0

        @property
        def behind(self) -> bool:
            """Return whether the terminal has not taken all of its output yet."""
            return bool(self._taken < self._sent)

        def write(self, data: str) -> None:
            """Send data to the terminal."""
            self._sent += 1
            super().write(data)

        def start_application_mode(self) -> None:
            """Take the terminal, initially or again; what it shows is unknown."""
            self._sent = self._taken = 0
            self._file = TellingFile(self._terminal, self._told)
            self._app.cells.forget()
            super().start_application_mode()

        def _told(self, writes: int) -> None:
            self._taken = writes
            with suppress(RuntimeError):  # the loop ended before the writing thread
                self._loop.call_soon_threadsafe(self._app.send)

    return PacedDriver
