"""A text that was pasted into the figures: offered as a prompt, not run as a row of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import Dialog

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def offer(host: Host, text: str) -> None:
    """Ask whether a pasted text is to be the prompt; undo brings the old one back."""

    def take(wanted: bool | None) -> None:
        if wanted:
            host.editor.replace_all(text)

    if text.strip():
        host.push_screen(OfferScreen(text, host.size), take)


class OfferScreen(Dialog[bool]):
    """The question. The answer is True on enter; any other key and a click drop the text."""

    def __init__(self, text: str, size: Size) -> None:
        super().__init__(size)
        self._text = text

    def compose(self) -> ComposeResult:
        """Yield the beginning of the text, and what each key does."""
        box = Vertical(id="menu")
        box.border_title = Content("Pasted into the figures")
        box.border_subtitle = Content("enter: make it the prompt · any other key drops it")
        lines = display_text(self._text.strip(), whitespace=False).split("\n")
        with box:
            for line in lines[:3]:
                yield Static(Content(line[: self.app.size.width]))
            if len(lines) > 3:
                yield Static(Content(f"… and {len(lines) - 3} more lines"))

    def on_key(self, event: events.Key) -> None:
        """Close with the answer of the key."""
        event.stop()
        event.prevent_default()
        self.leave(answer=event.key == "enter")
