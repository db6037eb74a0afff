"""The message log: all notices of this session, for those that went by too fast."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.content import Content
from textual.notifications import Notification

from llmscope.support.text import display_text
from llmscope.tui.dialogs.page import PageScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.theme.textual_theme import TextStyles

SEVERITIES = {"information": "note", "warning": "warning", "error": "error"}
"""The word for each severity, so that it does not depend on colour."""
EMPTY = "no notices yet: what llmscope tells you here and there is kept in this list"


def open_log(host: Host) -> None:
    """List the notices of this session, the newest last."""
    styles, times = host.text_styles, not host.user.anonymous  # a picture must not tell the time
    rows = [_row(notice, styles, times=times) for notice in host.messages]
    text = Content("\n").join(rows or [Content.styled(EMPTY, styles.dim)])
    host.clear_notifications()  # nothing stands over the list
    host.push_screen(PageScreen("Messages", text, at_end=True))


def _row(notice: Notification, styles: TextStyles, *, times: bool) -> Content:
    marks = {"warning": styles.warning, "error": styles.error}
    clock = time.strftime("%H:%M:%S  ", time.localtime(notice.raised_at)) if times else ""
    return Content.assemble(
        (clock, styles.dim),
        (f"{SEVERITIES[notice.severity]:<7}  ", marks.get(notice.severity, styles.dim)),
        (display_text(notice.message), styles.text),
    )
