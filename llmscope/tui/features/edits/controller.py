"""The key handlers for edits of the forward pass: add, write, change and switch them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.engine.events import Refused
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.tui.host import Host

PANE = "edits"


def zero(host: Host) -> None:
    """Add the edit that zeroes the item under the cursor, or remove it if it is listed."""
    state, pane = host.state, host.grid.pane
    edit = pane.edit_here(state)
    if edit is None:
        host.tell(_nothing(host), "warning")
        return
    # In the list the cursor is on an edit, which is removed whether it is on or off.
    here = pane.choose_edited(state)
    changed = state.without_edit(state.chosen) if pane.key == PANE else here.flipped(edit)
    if PANE not in host.grid.on_screen:
        gone = changed.place(edit) is None
        keys = host.user.keymap.filled("{edit-zero} takes it back, {workspace-what-if} lists all")
        host.tell(f"{edit}: taken back" if gone else f"{edit}; {keys}")
    host.look_at(changed)


def block(host: Host) -> None:
    """Add the edit that stops the cursor's token from reading what it reads most."""
    edit = host.grid.pane.knockout_here(host.state)
    if edit is None:
        host.tell(
            "nothing to stop reading here: it takes a later token in the attention pane, where "
            "each cell is one token and not a block of them, as of one head",
            "warning",
        )
        return
    if PANE not in host.grid.on_screen:
        keys = host.user.keymap.filled("{undo} takes it back, {workspace-what-if} lists all")
        host.tell(f"{edit}; {keys}")
    host.look_at(host.state.with_edit(edit))


def _nothing(host: Host) -> str:
    if host.state.info is None:
        return "the model is not there yet"
    if host.grid.pane.key == PANE:
        return _no_edit(host)
    return host.user.keymap.filled(
        "nothing to ablate here: a head, neuron or layer in another pane, or {edit-write} writes it"
    )


def _no_edit(host: Host) -> str:
    return host.user.keymap.filled(
        "no edit is listed: {edit-zero} ablates what is under the cursor, {edit-write} writes one"
    )


def write(host: Host) -> None:
    """Open the dialog for a new edit, or in the list for the selected edit."""
    from llmscope.tui.features.edits.dialog import EditScreen

    pane = host.grid.pane
    edit = pane.edit_here(host.state)
    inside = pane.key == PANE and edit is not None
    host.push_screen(EditScreen(host, "" if edit is None else str(edit), in_place=inside))


def _of_chosen(host: Host, change: Callable[[ViewState], ViewState]) -> None:
    if host.state.edits:
        host.look_at(change(host.state))
    else:
        host.tell(_no_edit(host), "warning")


def toggle(host: Host) -> None:
    """Switch the selected edit off or on."""
    _of_chosen(host, lambda state: state.toggled())


def earlier(host: Host) -> None:
    """Move the selected edit one place earlier in the order."""
    _of_chosen(host, lambda state: state.moved_edit())


def switch_all(host: Host) -> None:
    """Switch all edits off temporarily, or on again."""
    _of_chosen(host, lambda state: state.all_switched())


def remove(host: Host) -> None:
    """Remove the selected edit; only in the list, where the user sees which one it is."""
    if host.grid.pane.key != PANE and host.state.edits:
        host.tell("an edit is removed in the list of edits", "warning")
        return
    _of_chosen(host, lambda state: state.without_edit(state.chosen))


def turn(host: Host, by: int) -> None:
    """Change the strength of the selected edit by one step in direction `by`."""
    listed = host.state.chosen_edit
    if listed is None:
        host.tell(_no_edit(host), "warning")
    elif not listed.edit.turnable:
        host.tell(f"{listed.edit} has no strength: scale, set and steer have one", "warning")
    else:
        host.look_at(host.state.turned_edit(by), patiently=True)


def change(host: Host) -> None:
    """Toggle whether panes show the difference by edits (without edits A − B) or the values."""
    state = replace(host.state, change=not host.state.change)
    notice = ""
    if not state.change:
        notice = "" if state.in_force else "panes show the values again"
    elif state.apart and state.versus_prompt is None:
        notice = "panes show A − B of the two models"
    elif state.apart:
        notice = "panes show A − B, at the tokens that both have"
    elif not state.in_force:
        notice = (
            "panes will show what edits change, or A − B of two prompts or models, once there are "
            "some"
        )
    if notice:
        host.tell(notice)
    host.look_at(state)


def refused(host: Host, answer: Refused) -> bool:
    """Switch off the edits that the model refused, and go on without them.

    Returns:
        Whether any of them was on. If none was, nothing is asked for, and nothing would come.
    """
    from llmscope.tui.features.edits.dialog import EditScreen

    if isinstance(host.screen, EditScreen) and host.screen.shows_edit:
        host.screen.refused(f"{answer.reason} · {answer.hint}" if answer.hint else answer.reason)
        return True
    state = host.state.blamed(dict(answer.faults))
    if state.in_force == host.state.in_force:
        return False
    for old, new in zip(host.state.edits, state.edits, strict=True):
        if old != new:
            host.tell(f"switched off: {new.edit}: {new.flaw}", "warning")
    host.look_at(state)
    return True
