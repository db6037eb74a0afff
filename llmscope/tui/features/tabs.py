"""The actions of the tabs and their workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.state.workspaces import FIRST, tab_title

if TYPE_CHECKING:
    from llmscope.tui.host import Host


def show_workspace(host: Host, at: int) -> None:
    """Show the workspace at an index; a prompt that has the focus keeps it."""
    workspace = host.grid.workspaces[at]
    if host.in_prompt:
        host.grid.show(workspace)
    else:
        host.grid.open(workspace)


def show_tab(host: Host, at: int) -> None:
    """Show a tab by its place in the tab bar; the one on screen turns to what else it shows."""
    tabs = host.grid.tabs
    if at >= len(tabs):
        host.tell(host.user.keymap.filled(f"there are {len(tabs)} tabs: {{menu-tabs}} lists all"))
    elif tabs[at].name == host.grid.workspace.name and len(host.grid.shared_tab) > 1:
        host.grid.turn_tab()
    else:
        workspace = host.grid.shown_last(tabs[at])
        show_workspace(
            host, [workspace.name for workspace in host.grid.workspaces].index(workspace.name)
        )


def turn_tab(host: Host) -> None:
    """Show what else the tab on screen shows, such as two models in place of two prompts."""
    if not host.grid.turn_tab():
        host.tell(f"{host.grid.workspace.title} shows nothing else")


def next_workspace(host: Host, by: int) -> None:
    """Show the workspace of the next tab, or of the previous one for a negative `by`."""
    tabs = host.grid.tabs
    names = [tab.name for tab in tabs]
    at = (names.index(host.grid.workspace.name) + by) % len(tabs)
    if len(tabs) > 1:
        show_tab(host, at)


def close_tab(host: Host) -> None:
    """Close the tab on screen, unless it is always there or its subject is."""
    grid, tab = host.grid, host.grid.workspace.tab
    title = tab_title(grid.workspaces, grid.workspace)
    if tab == "prompts":
        host.prompt_list.end(host)
    if tab in FIRST:
        host.tell(f"{title} is always there")
        return
    grid.close(tab)
    show_tab(host, 0)
    if tab in [workspace.tab for workspace in grid.tabs]:
        host.tell(f"{title} is there as long as its subject is")
