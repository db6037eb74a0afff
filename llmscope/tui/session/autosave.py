"""Saves all that one builds shortly after each change: even kill -9 loses at most a second."""

from __future__ import annotations

import time
from threading import Condition, Thread
from typing import TYPE_CHECKING

from llmscope.tui.session.history_policy import HistoryPolicy
from llmscope.tui.session.state_file import changing
from llmscope.tui.session.state_folder import flaw
from llmscope.tui.session.stored_prompts import keep
from llmscope.tui.session.undo_history import UndoHistory

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.session.prompt_history import PromptRecord
    from llmscope.tui.session.session import StoredSession

DELAY = 0.5
"""Seconds from a change until it is written; later changes are written with it."""
PATIENCE = 1.0
"""Seconds that quitting waits for a folder that does not answer."""


class Autosave:
    """Saves a model's prompt, its undo history, the prompts before it, and the session.

    A thread writes the files: a home folder on a network that hangs never delays a letter.

    Args:
        spec: the model.
        text: the first prompt.

    Attributes:
        unwritten: the prompts that the history file does not hold yet, newest last.
    """

    def __init__(self, spec: str, text: str) -> None:
        self._spec = spec
        self._stays = HistoryPolicy(text, time.monotonic())
        self.unwritten: list[PromptRecord] = []
        self._due = self._typed = False
        self._put_last: StoredSession | None = None
        self._changed = Condition()
        self._next: dict[str, tuple[str, UndoHistory]] = {}
        self._session: StoredSession | None = None
        self._closed = False
        self._thread = Thread(target=self._work, name="llmscope-autosave", daemon=True)

    def edited(self, host: Host) -> None:
        """Save a changed prompt soon."""
        self._note(self._stays.changed(host.editor.text, time.monotonic()))
        self._typed = True
        self.changed(host)

    def changed(self, host: Host) -> None:
        """Save soon what may have changed on the screen."""
        if not self._due:
            self._due = True
            host.set_timer(DELAY, lambda: self.save(host))

    def worked(self) -> None:
        """Keep the current prompt in the history: something was done with its figures."""
        self._stays.worked()

    def save(self, host: Host) -> None:
        """Save the prompt and the session now, if they changed since they were saved."""
        self._due = False
        if self._closed or not host.screen_stack:  # the app is closing, and saves its last state
            return
        from llmscope.tui.session.session import StoredSession

        if warning := flaw():
            host.tell(warning, "warning", once=True)
        session = StoredSession.of(host) if host.source.named else None
        if not self._typed and session == self._put_last:
            return
        self._typed, self._put_last = False, session
        self._put(host.editor.text, UndoHistory.of(host.editor.history), session)

    def turn(self, spec: str, text: str, left: str, past: UndoHistory) -> None:
        """Save the prompt of another model from now on.

        Args:
            spec: the new model.
            text: the new model's prompt.
            left, past: the last prompt of the old model, and its undo history.
        """
        self._end(left)
        self._put(left, past, None)
        self._spec, self._stays = spec, HistoryPolicy(text, time.monotonic())

    def close(self) -> None:
        """Stop writing for the current model; the caller saves its last state."""
        with self._changed:
            self._closed = True
            self._next.pop(self._spec, None)
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def leave(self, text: str) -> None:
        """Add the unwritten prompts and the last one to the history. The thread must have ended."""
        from llmscope.tui.session.prompt_history import add

        self._end(text)
        add(self.unwritten)

    def _end(self, text: str) -> None:
        """Note the last prompt of a model."""
        now = time.monotonic()
        self._note(self._stays.changed(text, now))
        self._note(self._stays.left(now))

    def _note(self, prompt: str | None) -> None:
        if prompt is not None:
            from llmscope.tui.session.prompt_history import PromptRecord

            with self._changed:
                self.unwritten.append(PromptRecord(self._spec, prompt, round(time.time())))

    def _put(self, text: str, past: UndoHistory, session: StoredSession | None) -> None:
        with self._changed:
            self._next[self._spec] = text, past
            self._session = session
            self._changed.notify()
        if not self._thread.is_alive() and not self._closed:
            self._thread.start()

    def _work(self) -> None:
        from llmscope.tui.session.prompt_history import add
        from llmscope.tui.session.session import keep_session

        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next)
                if not self._next:
                    return
                prompts, self._next = self._next, {}
                session, self._session = self._session, None
                earlier = list(self.unwritten)
            with changing() as state:
                for spec, (text, past) in prompts.items():
                    keep(state, spec, text, past)
                if session is not None and not self._closed:
                    keep_session(state, session)
            add(earlier)
            with self._changed:
                del self.unwritten[: len(earlier)]
