"""The user's arrangement of the panes: hide, show and move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.tui.state.workspaces import workspace_of

if TYPE_CHECKING:
    from llmscope.tui.app import LlmscopeApp

STAYS = "the main figure stays; m gives another pane all the room"


def hide(desk: LlmscopeApp) -> None:
    """Hide the current pane."""
    _hide(desk, desk.overview.pane.key)


def toggle(desk: LlmscopeApp, key: str) -> None:
    """Hide a pane of this workspace, or show it again."""
    workspace = workspace_of(key, desk.overview.workspace, desk.overview.workspaces)
    if workspace != desk.overview.workspace:
        desk.tell(f"that pane is in the workspace {workspace.title}", "warning")
    elif key in desk.overview.arrangement.hidden:
        desk.overview.rearrange(desk.overview.arrangement.show(key))
    else:
        _hide(desk, key)


def show_all(desk: LlmscopeApp) -> None:
    """Show every pane that was hidden."""
    hidden = desk.overview.arrangement.hidden
    if not hidden:
        desk.tell("no pane is hidden")
        return
    desk.overview.rearrange(desk.overview.arrangement.show(*hidden))


def move(desk: LlmscopeApp, by: int) -> None:
    """Move the pane one place earlier or later among the details."""
    overview, key = desk.overview, desk.overview.pane.key
    if key not in overview.arrangement.shown:
        desk.tell(STAYS, "warning")
        return
    overview.rearrange(overview.arrangement.move(key, by))


def _hide(desk: LlmscopeApp, key: str) -> None:
    overview = desk.overview
    if key not in overview.arrangement.shown:
        desk.tell(STAYS, "warning")
        return
    inside = desk.focused is overview.panes[key]
    if inside and not desk.card.display:
        overview.next(1)
    overview.rearrange(overview.arrangement.hide(key))
    if inside and not desk.card.display:
        desk.screen.set_focus(overview.pane)
    keys = desk.own.keymap.first("panes-all")
    desk.tell(f"hidden; {keys} shows it again" if keys else "hidden")
