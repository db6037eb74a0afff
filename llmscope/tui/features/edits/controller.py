"""The key handlers for edits of the forward pass: add, write, change and switch them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.widgets import Input

from llmscope.edits import parse
from llmscope.engine.events import Refused
from llmscope.errors import ScopeError
from llmscope.text import display_text
from llmscope.tui.dialogs.base import LineScreen
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.tui.app import LlmscopeApp

PANE = "edits"
GRAMMAR = (
    "zero, mean, scale, patch, steer, freeze · head 5.3, neuron 5.7, attention, mlp, layer 5 · @-1"
)
"""The label of the line: actions, parts, and positions; the help page has the full grammar."""


def zero(desk: LlmscopeApp) -> None:
    """Add the edit that zeroes the item under the cursor, or remove it if it is listed."""
    scene, pane = desk.scene, desk.overview.pane
    edit = pane.edit_here(scene)
    if edit is None:
        desk.tell(_nothing(desk), "warning")
        return
    # In the list the cursor is on an edit, which is removed whether it is on or off.
    changed = scene.without_edit(scene.chosen) if pane.key == PANE else scene.flipped(edit)
    if PANE not in desk.overview.on_screen:
        gone = changed.place(edit) is None
        keys = desk.own.keymap.filled("{edit-zero} takes it back, {workspace-what-if} lists all")
        desk.tell(f"{edit}: taken back" if gone else f"{edit}; {keys}")
    desk.look_at(changed)


def _nothing(desk: LlmscopeApp) -> str:
    if desk.scene.info is None:
        return "the model is not there yet"
    if desk.overview.pane.key == PANE:
        return _no_edit(desk)
    return desk.own.keymap.filled(
        "nothing to zero here: a head, neuron or layer in another pane, or {edit-write} writes it"
    )


def _no_edit(desk: LlmscopeApp) -> str:
    return desk.own.keymap.filled(
        "no edit is listed: {edit-zero} zeroes what is under the cursor, {edit-write} writes one"
    )


def write(desk: LlmscopeApp) -> None:
    """Open the dialog for a new edit, or in the list for the selected edit."""
    pane = desk.overview.pane
    edit = pane.edit_here(desk.scene)
    inside = pane.key == PANE and edit is not None
    desk.push_screen(EditScreen(desk, "" if edit is None else str(edit), in_place=inside))


class EditScreen(LineScreen):
    """One line at the bottom: enter adds the edit, esc closes. An invalid edit stays in it."""

    def __init__(self, desk: LlmscopeApp, text: str, *, in_place: bool) -> None:
        what = "edit" if in_place else "new edit"
        super().__init__(f"{what} · {GRAMMAR}", text)
        self._desk = desk
        self._in_place = in_place

    def submit(self, event: Input.Submitted) -> None:
        """Add the edit to the list, or show the error."""
        try:
            edit = parse(event.value)
        except ScopeError as error:
            self.say(display_text(f"{error.message} · {error.hint}" if error.hint else str(error)))
            return
        scene = self._desk.scene
        put = scene.with_edit_in_place if self._in_place else scene.with_edit
        self.action_leave()
        self._desk.look_at(put(edit))


def _of_chosen(desk: LlmscopeApp, change: Callable[[ViewState], ViewState]) -> None:
    if desk.scene.edits:
        desk.look_at(change(desk.scene))
    else:
        desk.tell(_no_edit(desk), "warning")


def toggle(desk: LlmscopeApp) -> None:
    """Switch the selected edit off or on."""
    _of_chosen(desk, lambda scene: scene.toggled())


def earlier(desk: LlmscopeApp) -> None:
    """Move the selected edit one place earlier in the order."""
    _of_chosen(desk, lambda scene: scene.moved_edit())


def switch_all(desk: LlmscopeApp) -> None:
    """Switch all edits off temporarily, or on again."""
    _of_chosen(desk, lambda scene: scene.all_switched())


def remove(desk: LlmscopeApp) -> None:
    """Remove the selected edit; only in the list, where the user sees which one it is."""
    if desk.overview.pane.key != PANE and desk.scene.edits:
        desk.tell("an edit is removed in the list of edits", "warning")
        return
    _of_chosen(desk, lambda scene: scene.without_edit(scene.chosen))


def turn(desk: LlmscopeApp, by: int) -> None:
    """Change the strength of the selected edit by one step in direction `by`."""
    one = desk.scene.chosen_edit
    if one is None:
        desk.tell(_no_edit(desk), "warning")
    elif not one.edit.turnable:
        desk.tell(f"{one.edit} has no strength: scale and steer have one", "warning")
    else:
        desk.look_at(desk.scene.turned_edit(by), patiently=True)


def change(desk: LlmscopeApp) -> None:
    """Toggle whether panes show the difference by edits (without edits A − B) or the values."""
    scene = replace(desk.scene, change=not desk.scene.change)
    if not scene.change:
        said = "" if scene.in_force else "panes show the values again"
    elif scene.apart:
        said = "panes show A − B, at the tokens that both have"
    else:
        said = (
            ""
            if scene.in_force
            else "panes will show what edits change, or A − B, once there are some"
        )
    if said:
        desk.tell(said)
    desk.look_at(scene)


def refused(desk: LlmscopeApp, said: Refused) -> None:
    """Switch off the edits that the model refused, and go on without them."""
    scene = desk.scene.blamed(dict(said.faults))
    for old, new in zip(desk.scene.edits, scene.edits, strict=True):
        if old != new:
            desk.tell(f"switched off: {new.edit}: {new.flaw}", "warning")
    desk.look_at(scene)
