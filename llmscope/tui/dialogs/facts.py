"""A modal page of facts: the provenance of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from llmscope.draw.color.theme import Theme
from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import Overlay
from llmscope.tui.theme.textual_theme import text_styles


class FactsScreen(Overlay[None]):
    """A modal table of names and values, until a key closes it.

    Args:
        facts: names and values; untrusted text, escaped here.
        theme: the color theme.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,P,question_mark,f1,enter", "dismiss", "close", show=False)
    ]

    def __init__(self, facts: Sequence[tuple[str, str]], theme: Theme) -> None:
        super().__init__()
        self._facts, self._theme = facts, theme

    def compose(self) -> ComposeResult:
        """Yield the page."""
        styles = text_styles(self._theme)
        width = max((len(name) for name, _ in self._facts), default=0)
        rows = [
            Content.assemble((f"{name:<{width}}  ", styles.dim), (display_text(said), styles.text))
            for name, said in self._facts
        ]
        page = self._page = VerticalScroll(
            Static(Content("\n").join(rows), markup=False), id="help"
        )
        page.border_title = Content("Where it came from")
        page.border_subtitle = Content("↑↓ scroll · esc closes")
        yield page

    def on_mount(self) -> None:
        """Focus the page, so that the arrow keys scroll it."""
        self._page.focus()
