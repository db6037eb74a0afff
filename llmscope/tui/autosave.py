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
    """Keeps a model's prompt and the edits that led to it, and after that another model's.

    The files are written by a thread: a home on a network that hangs never holds up a letter.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._due = False
        self._changed = Condition()
        self._next: dict[str, tuple[str, Past]] = {}
        self._closed = False
        self._thread = Thread(target=self._work, name="llmscope-autosave", daemon=True)

    def edited(self, desk: Desk) -> None:
        """The prompt has changed: save it soon."""
        if not self._due:
            self._due = True
            desk.set_timer(DELAY, lambda: self._take(desk))

    def turn(self, spec: str, text: str, past: Past) -> None:
        """From now on the prompt is another model's; save the last one of this one at once."""
        self._put(text, past)
        self._spec = spec

    def close(self) -> None:
        """Write no more of the last model; whoever ends the program saves what is last."""
        with self._changed:
            self._closed = True
            self._next.pop(self._spec, None)
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _take(self, desk: Desk) -> None:
        self._due = False
        self._put(desk.editor.text, Past.of(desk.editor.history))

    def _put(self, text: str, past: Past) -> None:
        with self._changed:
            self._next[self._spec] = text, past
            self._changed.notify()
        if not self._thread.is_alive() and not self._closed:
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next)
                if not self._next:
                    return
                spec = next(iter(self._next))
                text, past = self._next.pop(spec)
            save_past(spec, past.to_record(text))  # first: without its text it is none
            save_prompt(spec, text)
