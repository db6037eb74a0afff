"""The views of the focused pane: the next one, the one before, and the entries of their menu."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING

from llmscope.tui.dialogs.menu import MenuEntry

if TYPE_CHECKING:
    from llmscope.tui.host import Host
    from llmscope.tui.panes import FigurePane

LETTERS = digits[1:] + ascii_uppercase
"""The letters of the views: small ones are those of the other entries of the menu."""
HERE = "on screen"


def turn(host: Host, by: int) -> None:
    """Show the pane's next view, or the one before for a negative `by`."""
    turned = host.grid.pane.turn(host.state, by)
    if turned is None:
        host.tell(host.grid.pane.one_view, "warning")
    else:
        host.look_at(turned)


def view_entries(host: Host) -> list[tuple[MenuEntry, Callable[[], object]]]:
    """Return an entry for each view of the focused pane, and what shows it."""
    pane, state = host.grid.pane, host.state
    offered = pane.offered_views(state)
    if len(offered) < 2:
        return []
    here = pane.view_index(state)
    return [
        (
            MenuEntry(letter, pane.view_name(index), HERE if index == here else ""),
            partial(_show, host, pane, index),
        )
        for letter, index in zip(LETTERS, offered, strict=False)
    ]


def _show(host: Host, pane: FigurePane, index: int) -> None:
    host.look_at(pane.show_view(host.state, index))
