"""Screens that lie over the other one for a moment."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType
from textual.widgets import Input, Static

from llmscope.text import forms
from llmscope.tui.actions.key_order import InOrder

HIDDEN = "?"
"""What stands in a line for a character that cannot be shown there."""
Answer = TypeVar("Answer")

OVERLAYS = Path(__file__).parents[1] / "overlays.tcss"


class Overlay(ModalScreen[ScreenResultType]):
    """Goes once: a key that was typed ahead of that may ask for it again."""

    CSS_PATH = OVERLAYS

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Go, unless it has gone."""
        return super().dismiss(result) if self.is_current else AwaitComplete()


class Dialog(Overlay["Answer | None"], Generic[Answer]):
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


class TextLine(InOrder, Input):
    """A line to write in, on which nothing that was pasted or put there acts on the terminal."""

    @property
    def _value(self) -> Text:
        # A character for a character: the cursor and the selection count them.
        drawn = zip(self.value, forms(self.value, cells=False), strict=True)
        shown = (char if form == char != "\n" else HIDDEN for char, form in drawn)
        return Text("".join(shown), no_wrap=True, overflow="ignore", end="")


class LineScreen(Overlay[None]):
    """One line at the bottom to write in: enter takes it, esc leaves.

    Args:
        words: what is asked.
        value: what the line holds at first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", show=False),
        Binding("ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(self, words: str, value: str) -> None:
        super().__init__()
        self._words = words
        self._line = TextLine(value, compact=True, id="line")
        self._line.cursor_blink = False
        self._ahead: list[events.Key] | None = []

    def compose(self) -> ComposeResult:
        """What is asked, and the line."""
        with Vertical(id="ask"):
            yield Static(Content(self._words), id="ask-words")
            yield self._line

    def on_mount(self) -> None:
        """Once all keys are here that were pressed before the line was there, it takes them."""
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._line.focus()
        ahead, self._ahead = self._ahead or (), None
        # Those that were sent to a pane first come by another way, and later.
        for key in sorted(ahead, key=lambda key: key.time):
            self._line._forward_event(key)

    def typed_ahead(self, event: events.Key) -> None:
        """Take a key that was pressed before the line had the focus, if it is one of the line's."""
        if not self._line.takes(event):
            return
        event.stop()
        event.prevent_default()
        key = events.Key(event.key, event.character)
        key.time = event.time
        if self._ahead is None:
            self._line._forward_event(key)
        else:
            self._ahead.append(key)

    def on_key(self, event: events.Key) -> None:
        """What comes while nothing has the focus was meant for the line."""
        if self.focused is None:
            self.typed_ahead(event)

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what is written; an empty line leaves."""
        event.stop()
        if not self.is_current:
            return
        if event.value.strip():
            self.submit(event)
        else:
            self.action_leave()

    def submit(self, event: Input.Submitted) -> None:
        """What to do with it."""
        raise NotImplementedError

    def say(self, words: str) -> None:
        """Ask again, in other words."""
        self.query_one("#ask-words", Static).update(Content(words.replace("\n", " ")))
