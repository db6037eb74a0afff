"""Opening a menu: its entries, with what each would do now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from llmscope.tui.actions.menus import MENU_BY_NAME, actions_of
from llmscope.tui.dialogs.menu import MenuEntry
from llmscope.tui.features.menu_now import NOW, Now
from llmscope.tui.features.views import view_entries
from llmscope.tui.state.workspaces import TITLES

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Action
    from llmscope.tui.host import Host


def open_menu(host: Host, name: str) -> None:
    """Open a menu, and run the action that the next key chooses."""
    from llmscope.tui.dialogs import menu as dialog

    menu = MENU_BY_NAME[name]
    offered = actions_of(name, host.user.keymap.actions)
    offered = [action for action in offered if host.mode.offers(action.name)]
    runs: dict[str, Callable[[], object]] = {}
    entries: list[MenuEntry] = []
    if name == "view":
        for entry, show in view_entries(host):
            entries.append(entry)
            runs[entry.letter] = show
    for action in offered:
        entries.append(entry_of(host, action))
        runs[action.letter] = partial(host.action_act, action.name)

    if not entries:
        host.mode.explain_refusal(host, host.user.keymap.action(menu.action))
        return
    # A picture must not depend on when it was taken.
    wait = 0.0 if host.user.anonymous else dialog.WAIT
    pane = host.grid.pane.key
    heading = menu.title if name != "view" else f"view of {TITLES.get(pane, pane)}"
    host.push_screen(
        dialog.MenuScreen(heading, entries, lambda letter: runs[letter](), host.size, wait=wait)
    )


def entry_of(host: Host, action: Action) -> MenuEntry:
    """Return the entry of an action: its letter, its title, and what it would do now."""
    now = NOW[action.name](host) if action.name in NOW else Now("")
    title = host.mode.title_of(action).removeprefix(f"{action.area}: ")
    return MenuEntry(action.letter, title, now.text, now.on)
