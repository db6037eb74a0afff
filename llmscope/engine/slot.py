"""A slot that holds one request: a newer one takes the place of one that still waits."""

from __future__ import annotations

from threading import Condition

from llmscope.engine.events import Ask, OpenRequest, Request


class Slot:
    """Between the screen, which puts, and the engine's thread, which takes."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: Ask | None = None
        self._closed = False

    def put(self, request: Ask) -> None:
        """Leave a request; one that was not yet taken is forgotten.

        But for one that opens another model: what else is asked waits for that, or is of no use.
        """
        with self._changed:
            if not self.opening or isinstance(request, OpenRequest):
                self._waiting = request
            self._changed.notify()

    def take(self) -> Ask | None:
        """Wait for a request; None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting is not None)
            request, self._waiting = self._waiting, None
            return None if self._closed else request

    def close(self) -> None:
        """Nothing will be taken any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """Whether somebody closed the slot."""
        return self._closed

    @property
    def opening(self) -> bool:
        """Whether another model is asked for."""
        return isinstance(self._waiting, OpenRequest)

    def newer(self) -> bool:
        """Whether a request waits, or the slot was closed: what is under way is out of date."""
        return self._closed or self._waiting is not None

    def newer_prompt(self, request: Request) -> bool:
        """Whether what waits asks for another prompt, so that this one's pass is of no use."""
        waiting = self._waiting
        return self._closed or (waiting is not None and waiting.prompt != request.prompt)
