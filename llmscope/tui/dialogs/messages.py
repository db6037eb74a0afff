"""The message log: all notices of this session, for those that went by too fast."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.notifications import Notification
from textual.widgets import Static

from llmscope.draw.color.theme import Theme
from llmscope.support.text import display_text
from llmscope.tui.dialogs.base import Overlay
from llmscope.tui.theme.textual_theme import text_styles

if TYPE_CHECKING:
    from llmscope.tui.host import Host

SEVERITIES = {"information": "note", "warning": "warning", "error": "error"}
"""The word for each severity, so that it does not depend on colour."""
EMPTY = "no notices yet: what llmscope tells you here and there is kept in this list"


def open_log(host: Host) -> None:
    """List the notices of this session."""
    times = not host.user.anonymous  # a picture must not depend on when it was taken
    host.push_screen(MessagesScreen(tuple(host.messages), host.look.theme, times=times))


class MessagesScreen(Overlay[None]):
    """A modal list of notices, the newest last, until a key closes it.

    Args:
        notices: the notices; untrusted text, escaped here.
        theme: the color theme.
        times: show the time of day of each; pictures that must not differ leave it out.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,exclamation_mark,question_mark,f1,enter", "dismiss", "close", show=False)
    ]

    def __init__(self, notices: Sequence[Notification], theme: Theme, *, times: bool) -> None:
        super().__init__()
        self._notices, self._theme, self._times = notices, theme, times

    def compose(self) -> ComposeResult:
        """Yield the list."""
        styles = text_styles(self._theme)
        rows = [self._row(notice) for notice in self._notices]
        said = Content("\n").join(rows) if rows else Content.assemble((EMPTY, styles.dim))
        page = self._page = VerticalScroll(Static(said, markup=False), id="help")
        page.border_title = Content("Messages")
        page.border_subtitle = Content("↑↓ scroll · esc closes")
        yield page

    def on_mount(self) -> None:
        """Focus the list, so that the arrow keys scroll it, show its end, and nothing over it."""
        self.app.clear_notifications()
        self._page.focus()
        self.call_after_refresh(self._page.scroll_end, animate=False)

    def _row(self, notice: Notification) -> Content:
        styles = text_styles(self._theme)
        marks = {"warning": styles.warning, "error": styles.error}
        at = time.strftime("%H:%M:%S  ", time.localtime(notice.raised_at)) if self._times else ""
        return Content.assemble(
            (at, styles.dim),
            (f"{SEVERITIES[notice.severity]:<7}  ", marks.get(notice.severity, styles.dim)),
            (display_text(notice.message), styles.text),
        )
