"""The command palette: every action of the registry, named `area: action`, and the themes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from textual import work
from textual.await_complete import AwaitComplete
from textual.command import CommandInput, CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.css.query import NoMatches

from llmscope.draw import theme_names
from llmscope.text import display_text
from llmscope.tui.dialogs.base import OVERLAYS
from llmscope.tui.theme_switcher import all_names, choose

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Action
    from llmscope.tui.host import Host

THEME = "theme"
"""The area of actions that is listed last, just before the themes."""
KEYS = 9
"""Width in cells of the column of keys, left of the titles."""
SHARE, WIDEST, MARGIN = 0.9, 96, 6
"""The list's share of the screen width and its maximum width (as in the style sheet), and its
margins, in cells."""


def commands(actions: Sequence[Action]) -> list[Action]:
    """Return the actions area by area, without the `-anywhere` duplicates."""
    areas = list(dict.fromkeys(action.area for action in actions if action.area != THEME))
    offered = [action for action in actions if not action.name.endswith("-anywhere")]
    return sorted(offered, key=lambda action: [*areas, THEME].index(action.area))


class CommandPaletteScreen(CommandPalette):
    """Textual's command palette, made robust against keys that are typed ahead of its closing."""

    CSS_PATH = OVERLAYS

    def __init__(self) -> None:
        super().__init__(providers=[Commands])

    @work(exclusive=True, group="commands")
    async def _gather_commands(self, search_value: str) -> None:
        gather: Any = CommandPalette._gather_commands
        # The list may be unmounted before the search for a last letter begins.
        with suppress(NoMatches):
            await gather.__wrapped__(self, search_value)

    def on_mount(self) -> None:
        """Stop the cursor from blinking: it would redraw cells forever and make screens differ."""
        self.query_one(CommandInput).cursor_blink = False

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Dismiss the screen, unless it is already dismissed."""
        return super().dismiss(result) if self.is_current else AwaitComplete()

    def _action_command_list(self, action: str) -> None:
        # Paging in a list that has not been laid out yet finds no line.
        with suppress(KeyError):
            super()._action_command_list(action)

    def _cancel_gather_commands(self) -> None:
        self.workers.cancel_group(self, "commands")


class Commands(Provider):
    """The palette's provider: the actions of the registry, then every theme."""

    async def discover(self) -> Hits:
        """Yield all commands, before anything is typed."""
        for entry in self._entries():
            yield DiscoveryHit(self._row(Content(entry.title), entry.keys), entry.run, entry.title)

    async def search(self, query: str) -> Hits:
        """Yield the commands that match `query`."""
        matcher = self.matcher(query)
        for entry in self._entries():
            score = matcher.match(entry.title)
            if score > 0:
                # The highlighter would read brackets, which a file name may have, as markup.
                plain = "[" in entry.title
                shown = Content(entry.title) if plain else matcher.highlight(entry.title)
                yield Hit(score, self._row(shown, entry.keys), entry.run, entry.title)

    def _row(self, title: Content, keys: str) -> Content:
        host = cast("Host", self.app)
        row = Content.assemble((f"{keys:<{KEYS}} ", host.text_styles.dim), title)
        return row.truncate(min(int(SHARE * host.size.width), WIDEST) - MARGIN, ellipsis=True)

    def _entries(self) -> Iterable[PaletteEntry]:
        host = cast("Host", self.app)
        for action in commands(host.user.keymap.actions):
            if not host.mode.offers(action.name):
                continue
            keys = list(host.user.keymap.shown(action))
            while len(keys) > 1 and len(" ".join(keys)) > KEYS:
                keys.pop()
            yield PaletteEntry(
                host.mode.title_of(action), partial(action.run, host), " ".join(keys)
            )
        for key in host.grid.added:
            title = f"pane: {display_text(host.grid.panes[key].called)}"
            yield PaletteEntry(title, partial(host.grid.enter, key))
        for name in theme_names() if host.user.anonymous else all_names():
            title = f"{THEME}: {display_text(name, whitespace=True)}"
            yield PaletteEntry(title, partial(choose, host, name))


class PaletteEntry(NamedTuple):
    """One line of the palette, with the keys of its action."""

    title: str
    run: partial[None]
    keys: str = ""
