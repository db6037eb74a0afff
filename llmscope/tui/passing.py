"""A screen that lies over the other one for a moment and goes with the next key."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual import events
from textual.geometry import Size
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class PassingScreen(ModalScreen["Answer | None"], Generic[Answer]):
    """Made for one size of the terminal: another one takes it away, as a click does.

    Args:
        size: of the terminal.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._size_at_first = size
        self._left = False

    def leave(self, answer: Answer | None = None) -> None:
        """Go, once: keys that were typed ahead may ask for it again."""
        if not self._left:
            self._left = True
            self.dismiss(answer)

    def on_click(self, event: events.Click) -> None:
        """Go without an answer."""
        self.leave()

    def on_resize(self, event: events.Resize) -> None:
        """What it points at has moved."""
        if event.size != self._size_at_first:
            self.leave()
