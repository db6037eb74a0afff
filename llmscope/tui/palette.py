"""The command palette's commands: every action of the registry, named `area: action`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from llmscope.tui.actions import ACTIONS, Action

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk


def commands() -> Iterable[Action]:
    """One action for each thing that can be done: not the second way to the same thing."""
    return (action for action in ACTIONS if not action.name.endswith("-anywhere"))


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
