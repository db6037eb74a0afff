"""The views of the focused pane: the next one, the one before, and a menu of all."""

from __future__ import annotations

from string import ascii_lowercase, digits
from typing import TYPE_CHECKING

from llmscope.tui.features.copy.menu import Copy, CopyScreen

if TYPE_CHECKING:
    from llmscope.tui.host import Host

LETTERS = digits[1:] + ascii_lowercase
HERE = "on screen"


def turn(host: Host, by: int) -> None:
    """Show the pane's next view, or the one before for a negative `by`."""
    turned = host.grid.pane.turn(host.state, by)
    if turned is None:
        host.tell(host.grid.pane.one_view, "warning")
    else:
        host.look_at(turned)


def choose(host: Host) -> None:
    """Open the menu of the pane's views, and show the one that is chosen."""
    pane, state = host.grid.pane, host.state
    offered = pane.offered_views(state)
    if len(offered) < 2:
        host.tell(pane.one_view, "warning")
        return
    found = dict(zip(LETTERS, offered, strict=False))
    here = pane.view_index(state)
    rows = [
        Copy(letter, pane.view_name(index), HERE if index == here else "")
        for letter, index in found.items()
    ]

    def show(letter: str | None) -> None:
        if letter is not None:
            host.look_at(pane.show_view(host.state, found[letter]))

    host.push_screen(ViewsScreen(rows, host.look.theme, host.size), show)


class ViewsScreen(CopyScreen):
    """The menu of views. The answer is the letter of one; None on any other key."""

    heading = "Views"
