"""The line in which a feature is searched for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.tui.dialogs.base import LineScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WORDS = "find a feature: a part of a label, or a token with its space, such as ‹ dog›"


class FindFeatureScreen(LineScreen):
    """One line at the bottom: enter searches, esc closes. What finds nothing stays in it."""

    def __init__(self, host: Host) -> None:
        super().__init__(WORDS, host.state.query)
        self._host = host

    def submit(self, event: Input.Submitted) -> None:
        """Search for the text of the line."""
        self.say(WORDS)
        self._host.feature_search.ask(self._host, event.value)

    def action_leave(self) -> None:
        """Close without a search."""
        self._host.feature_search.drop()
        super().action_leave()
