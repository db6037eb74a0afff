"""A modal page of text, which the arrow keys scroll."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmscope.tui.dialogs.base import Overlay


class PageScreen(Overlay[None]):
    """A page of text, until a key closes it.

    Args:
        title: the title of the page.
        text: the page.
        at_end: open it at its end.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "escape,q,P,exclamation_mark,question_mark,f1,enter", "dismiss", "close", show=False
        )
    ]

    def __init__(self, title: str, text: Content, *, at_end: bool = False) -> None:
        super().__init__()
        self._page = VerticalScroll(Static(text, markup=False), id="help")
        self._page.border_title = Content(title)
        self._page.border_subtitle = Content("↑↓ scroll · esc closes")
        self._at_end = at_end

    def compose(self) -> ComposeResult:
        """Yield the page."""
        yield self._page

    def on_mount(self) -> None:
        """Focus the page, so that the arrow keys scroll it."""
        self._page.focus()
        if self._at_end:
            self.call_after_refresh(self._page.scroll_end, animate=False)
