"""The user's arrangement of the panes: hide, show and move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.state.workspaces import workspace_of

if TYPE_CHECKING:
    from llmscope.tui.host import Host

STAYS = "the main figure stays; m gives another pane all the room"


def hide(host: Host) -> None:
    """Hide the current pane."""
    _hide(host, host.grid.pane.key)


def toggle(host: Host, key: str) -> None:
    """Hide a pane of this workspace, or show it again."""
    workspace = workspace_of(key, host.grid.workspace, host.grid.workspaces)
    if workspace != host.grid.workspace:
        host.tell(f"that pane is in the workspace {workspace.title}", "warning")
    elif key in host.grid.arrangement.hidden:
        host.grid.rearrange(host.grid.arrangement.show(key))
    else:
        _hide(host, key)


def show_all(host: Host) -> None:
    """Show every pane that was hidden."""
    hidden = host.grid.arrangement.hidden
    if not hidden:
        host.tell("no pane is hidden")
        return
    host.grid.rearrange(host.grid.arrangement.show(*hidden))


def move(host: Host, by: int) -> None:
    """Move the pane one place earlier or later among the details."""
    grid, key = host.grid, host.grid.pane.key
    if key not in grid.arrangement.shown:
        host.tell(STAYS, "warning")
        return
    grid.rearrange(grid.arrangement.move(key, by))


def enter(host: Host, key: str) -> None:
    """Go to a pane, in its workspace."""
    host.grid.enter(key)


def next_pane(host: Host, by: int) -> None:
    """Go to the next pane, or to the one before for a negative `by`."""
    host.grid.next(by)


def maximize(host: Host) -> None:
    """Give the current pane all the room, or put it back."""
    host.grid.maximize()


def reset_sizes(host: Host) -> None:
    """Give all panes their own sizes again."""
    host.grid.reset_sizes()


def resize(host: Host, rows: int, columns: int) -> None:
    """Make the current pane taller or wider; negative numbers make it smaller."""
    if not host.grid.resize(rows=rows, columns=columns):
        host.tell("no other pane here could give it room, or take it", "warning")


def _hide(host: Host, key: str) -> None:
    grid = host.grid
    if key not in grid.arrangement.shown:
        host.tell(STAYS, "warning")
        return
    inside = host.focused is grid.panes[key]
    if inside and not host.placeholder.display:
        grid.next(1)
    grid.rearrange(grid.arrangement.hide(key))
    if inside and not host.placeholder.display:
        host.screen.set_focus(grid.pane)
    keys = host.user.keymap.first("panes-all")
    host.tell(f"hidden; {keys} shows it again" if keys else "hidden")
