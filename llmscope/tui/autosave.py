"""The prompt is saved while it is written, so that not even kill -9 takes more than a second."""

from __future__ import annotations

from threading import Condition, Thread
from typing import TYPE_CHECKING

from llmscope.tui.past import Past
from llmscope.tui.saved import save_past, save_prompt

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

DELAY = 0.5
"""Seconds from a change to the file; what is changed meanwhile goes with it."""
PATIENCE = 1.0
"""Seconds that the end of the program waits for a folder that does not answer."""


class Autosave:
    """Keeps one model's prompt and the edits that led to it.

    The files are written by a thread: a home on a network that hangs never holds up a letter.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._due = False
        self._changed = Condition()
        self._next: tuple[str, Past] | None = None
        self._closed = False
        self._thread = Thread(target=self._work, name="llmscope-autosave", daemon=True)

    def edited(self, desk: Desk) -> None:
        """The prompt has changed: save it soon."""
        if not self._due:
            self._due = True
            desk.set_timer(DELAY, lambda: self._take(desk))

    def close(self) -> None:
        """Write no more; whoever ends the program saves what is last."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _take(self, desk: Desk) -> None:
        self._due = False
        with self._changed:
            self._next = desk.editor.text, Past.of(desk.editor.history)
            self._changed.notify()
        if not self._thread.is_alive() and not self._closed:
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next is not None)
                if self._closed or self._next is None:
                    return
                (text, past), self._next = self._next, None
            save_past(self._spec, past.to_record(text))  # first: without its text it is none
            save_prompt(self._spec, text)
