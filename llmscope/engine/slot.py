"""A slot that holds one request: a newer request replaces one that is still waiting.

Behind it is room for a request that waits for all others.
"""

from __future__ import annotations

from threading import Condition

from llmscope.engine.events import Ask, OpenRequest, PromptsRequest, Request


class Slot:
    """A mailbox of size one: the screen puts requests, the engine's thread takes them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: Ask | None = None
        self._behind: PromptsRequest | None = None
        self._closed = False

    def put(self, request: Ask) -> Ask | None:
        """Put a request; one that was not taken yet is dropped.

        An OpenRequest is replaced only by another OpenRequest: other requests are dropped while one
        is waiting.

        Returns:
            The request that was dropped, which may be the new one; None if none was.
        """
        with self._changed:
            if self.opening and not isinstance(request, OpenRequest):
                return request
            dropped, self._waiting = self._waiting, request
            self._changed.notify()
        return dropped

    def put_behind(self, request: PromptsRequest) -> None:
        """Put a request behind all others; an earlier one there is replaced."""
        with self._changed:
            self._behind = request
            self._changed.notify()

    def take(self, patience: float | None = None) -> Ask | None:
        """Wait for a request.

        Args:
            patience: the seconds to wait; None waits as long as it takes.

        Returns:
            None once the slot is closed, once a request is behind all others, and when the time is
            over.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._waiting is not None or self._behind is not None,
                patience,
            )
            request, self._waiting = self._waiting, None
            return None if self._closed else request

    def take_behind(self) -> PromptsRequest | None:
        """Return the request behind all others; None without one."""
        with self._changed:
            request, self._behind = self._behind, None
        return request

    def close(self) -> None:
        """Close the slot, so that `take` returns None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        """Whether the slot was closed."""
        return self._closed

    @property
    def opening(self) -> bool:
        """Whether a request to open another model is waiting."""
        return isinstance(self._waiting, OpenRequest)

    def newer(self) -> bool:
        """Return whether a request waits or the slot was closed: the current one is out of date."""
        return self._closed or self._waiting is not None

    def newer_prompt(self, request: Request) -> bool:
        """Return whether another prompt waits or the slot closed, so that this pass is useless."""
        waiting = self._waiting
        return self._closed or (waiting is not None and waiting.prompt != request.prompt)
