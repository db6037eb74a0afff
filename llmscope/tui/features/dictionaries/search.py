"""The search for a feature: a line for a label or a token, and what is found in the list."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.support.text import display_line
from llmscope.tui.state.workspaces import BY_NAME

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ChosenFeature

PANE = "features"


class FeatureSearch:
    """The search that waits for its figure; its line stays open until that is there.

    Attributes:
        asked: the query; empty while none is awaited.
        before: the feature that was chosen before the search.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.before: ChosenFeature | None = None

    def ask(self, host: Host, query: str) -> None:
        """Show what a query finds."""
        self.asked = query
        if not host.state.query:
            self.before = host.state.feature
        host.grid.show(BY_NAME["features"])
        host.look_at(replace(host.state, query=query))
        self.landed(host)  # the same query may be on screen

    def drop(self) -> None:
        """Await nothing more."""
        self.asked = ""

    def landed(self, host: Host) -> None:
        """Go to what was found, or tell why nothing was; the line then keeps what was typed."""
        result = host.figures.shown(PANE)
        if not self.asked or result is None or host.figures.stale(PANE):
            return
        from llmscope.lenses.features.options import QUERY

        if QUERY.of(result.want.focus) != self.asked:
            return
        self.drop()
        from llmscope.tui.features.dictionaries.search_line import FindFeatureScreen

        line = host.screen if isinstance(host.screen, FindFeatureScreen) else None
        figure = result.figure
        if figure.verdict.status == "refused":
            reason = display_line(figure.verdict.reason)
            host.tell(reason, "warning")
            leave(host)
            if line is not None:
                line.say(reason)
            return
        if line is not None:
            line.action_leave()
        host.grid.enter(PANE)
        ids = [int(index) for index in figure.extra.get("ids", ())]
        if ids:
            host.look_at(host.state.choose_feature(ids[0]))


def find(host: Host) -> None:
    """Open the line for what to find."""
    from llmscope.tui.features.dictionaries.search_line import FindFeatureScreen

    if not host.state.dictionaries:
        host.tell(
            host.user.keymap.filled(
                "no dictionary of features is in use: {dictionaries} chooses one"
            ),
            "warning",
        )
    elif not host.holds(FindFeatureScreen):
        host.push_screen(FindFeatureScreen(host))


def take(host: Host) -> None:
    """End the search, and keep the chosen feature at every token."""
    chosen = host.state.feature
    host.look_at(
        replace(host.state, query="")
        if chosen is None
        else host.state.keep_found_feature(chosen.index)
    )


def leave(host: Host) -> None:
    """End the search, with the feature that was chosen before it."""
    host.look_at(replace(host.state, query="", feature=host.feature_search.before))
