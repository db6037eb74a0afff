"""The command palette's commands: every action of the registry, named `area: action`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual import work
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.css.query import NoMatches

from llmscope.tui.actions import ACTIONS, Action

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk


def commands() -> Iterable[Action]:
    """One action for each thing that can be done: not the second way to the same thing."""
    return (action for action in ACTIONS if not action.name.endswith("-anywhere"))


class Palette(CommandPalette):
    """Textual's palette, which a key that was typed ahead of its end does not bring down."""

    CSS_PATH = "overlays.tcss"

    @work(exclusive=True, group="commands")
    async def _gather_commands(self, search_value: str) -> None:
        gather: Any = CommandPalette._gather_commands
        # The list is gone while the search for a last letter begins.
        with suppress(NoMatches):
            await gather.__wrapped__(self, search_value)

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Go, unless it has gone."""
        return super().dismiss(result) if self.is_current else AwaitComplete()

    def _action_command_list(self, action: str) -> None:
        # A page of a list that has not been laid out yet has no line that one could go to.
        with suppress(KeyError):
            super()._action_command_list(action)

    def _cancel_gather_commands(self) -> None:
        self.workers.cancel_group(self, "commands")


class Commands(Provider):
    """Offers the registry to the palette."""

    async def discover(self) -> Hits:
        """All commands, before anything is typed."""
        for action in commands():
            yield DiscoveryHit(action.full_title, self._run(action), help=self._keys(action))

    async def search(self, query: str) -> Hits:
        """The commands that match."""
        matcher = self.matcher(query)
        for action in commands():
            score = matcher.match(action.full_title)
            if score > 0:
                shown = matcher.highlight(action.full_title)
                yield Hit(score, shown, self._run(action), help=self._keys(action))

    def _keys(self, action: Action) -> str | None:
        return " ".join(cast("Desk", self.app).own.keymap.shown(action)) or None

    def _run(self, action: Action) -> partial[None]:
        return partial(action.run, cast("Desk", self.app))
