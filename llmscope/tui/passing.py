"""Screens that lie over the other one for a moment."""

from __future__ import annotations

from typing import Generic, TypeVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType

Answer = TypeVar("Answer")


class Overlay(ModalScreen[ScreenResultType]):
    """Goes once: a key that was typed ahead of that may ask for it again."""

    CSS_PATH = "overlays.tcss"

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Go, unless it has gone."""
        return super().dismiss(result) if self.is_current else AwaitComplete()


class PassingScreen(Overlay["Answer | None"], Generic[Answer]):
    """Made for one size of the terminal: another one takes it away, as a click does.

    Args:
        size: of the terminal.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self._size_at_first = size

    def leave(self, answer: Answer | None = None) -> None:
        """Go with an answer, or without one."""
        self.dismiss(answer)

    def on_click(self, event: events.Click) -> None:
        """Go without an answer."""
        self.leave()

    def on_resize(self, event: events.Resize) -> None:
        """What it points at has moved."""
        if event.size != self._size_at_first:
            self.leave()
