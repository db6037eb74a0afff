"""The screen on a web page: output goes through pipes to `llmscope serve`."""

from __future__ import annotations

import os
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

from textual import events, messages
from textual.drivers.web_driver import WebDriver

if TYPE_CHECKING:
    from llmscope.tui.terminal.paced_driver import PacedApp

PATIENCE = 1.0
"""Seconds that quitting waits until all output has gone through the pipe."""


class PageDriver(WebDriver):
    """Textual's driver for web pages, which keeps the pace of the page and ends with it.

    A thread writes, since a full pipe would block the event loop, letters included. While it has
    not written all output, frames only update the `TerminalCells`: see `PacedApp`.
    """

    def __init__(self, app: PacedApp, **options: Any) -> None:
        super().__init__(app, **options)
        self._send = app.send
        self._waiting: Queue[bytes | None] = Queue()
        self._write: Any = self._waiting.put  # whole packets, in their order, from any thread
        self._writer = Thread(target=self._work, name="llmscope-page", daemon=True)

    @property
    def behind(self) -> bool:
        """Return whether the page has not taken all of its output yet."""
        return self._waiting.unfinished_tasks > 0

    def write(self, data: str) -> None:
        """Send data to the page. Pasted text may contain a lone surrogate."""
        super().write(data.encode("utf-8", "replace").decode())

    def start_application_mode(self) -> None:
        """Take the page, with the focus at once; Textual's driver waits for a click."""
        self._writer.start()
        super().start_application_mode()
        self._app.call_later(self._app.post_message, events.AppFocus())

    def stop_application_mode(self) -> None:
        """Send the end of the session, and give it time to arrive."""
        super().stop_application_mode()
        self._waiting.put(None)
        self._writer.join(PATIENCE)

    def run_input_thread(self) -> None:
        """Read input from the page. When the page is gone, the program ends."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            with suppress(OSError):  # the page is gone; the input thread notices
                while data:
                    data = data[os.write(self.fileno, data) :]
            self._waiting.task_done()
            with suppress(RuntimeError):  # the loop ended before this thread
                self._loop.call_soon_threadsafe(self._send)
