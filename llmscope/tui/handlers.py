"""Handlers of the actions that do more than move the cursor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.text import quoted_token
from llmscope.tui.terminal.output_guard import can_be_resumed

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Where
    from llmscope.tui.app import LlmscopeApp


def up(desk: LlmscopeApp) -> None:
    """Move one row up; each pane defines its own rows."""
    desk.look_at(desk.overview.pane.step(desk.scene, -1))


def down(desk: LlmscopeApp) -> None:
    """Move one row down."""
    desk.look_at(desk.overview.pane.step(desk.scene, 1))


def left(desk: LlmscopeApp) -> None:
    """Move one column to the left; each pane defines its own columns."""
    desk.look_at(desk.overview.pane.side(desk.scene, -1))


def right(desk: LlmscopeApp) -> None:
    """Move one column to the right."""
    desk.look_at(desk.overview.pane.side(desk.scene, 1))


def turn(desk: LlmscopeApp) -> None:
    """Show the next view of the pane, or of the main figure if the pane has only one."""
    overview, scene = desk.overview, desk.scene
    turned = overview.pane.turn(scene) or overview.panes[overview.workspace.spine].turn(scene)
    if turned is None:
        desk.tell(overview.pane.one_view, "warning")
    else:
        desk.look_at(turned)


def first_token(desk: LlmscopeApp) -> None:
    """Go to the first token."""
    desk.look_at(desk.scene.go(position=0))


def last_token(desk: LlmscopeApp) -> None:
    """Go to the last token, which the cursor then follows."""
    desk.look_at(desk.scene.go(position=len(desk.scene.tokens) - 1))


def leave(desk: LlmscopeApp) -> None:
    """Go from the prompt to the figures, or to the placeholder in their place."""
    desk.screen.set_focus(desk.card if desk.card.display else desk.overview.pane)


def edit_prompt(desk: LlmscopeApp) -> None:
    """Go back to the prompt."""
    desk.screen.set_focus(desk.editor)


def chat(desk: LlmscopeApp) -> None:
    """Put the typed text into the model's chat template, or take it out again."""
    from llmscope.tui.features.models.model_switch import busy

    if not busy(desk):
        desk.chat.toggle(desk)


def next_adapter(desk: LlmscopeApp) -> None:
    """Switch to the next adapter, or to the base model after the last one."""
    scene = desk.scene.adapted()
    if scene.info is None or not scene.info.adapters:
        desk.tell("no adapter was loaded: llmscope MODEL --adapter ADAPTER", "warning")
        return
    desk.title_line.model(scene.info, scene.adapter)
    desk.look_at(scene)


def pin_target(desk: LlmscopeApp) -> None:
    """Pin the target token, so that it stays wherever the cursor goes; or unpin it."""
    scene, shown = desk.scene, desk.ledger.shown("next-token")
    if scene.target_pinned:
        desk.look_at(scene.aim(None, pinned=False))
        desk.tell("the target is the most probable token again")
        return
    ids = [] if shown is None else [int(token) for token in shown.figure.extra.get("ids", ())]
    if shown is None or not ids:
        desk.tell("no next token on screen to pin", "warning")
        return
    target = scene.target if scene.target in ids else ids[0]
    desk.look_at(scene.aim(target, pinned=True))
    desk.tell(f"target pinned: {quoted_token(shown.figure.axes[0].labels[ids.index(target)])}")


def versus(desk: LlmscopeApp) -> None:
    """Compare the target with the chosen candidate, or stop comparing."""
    scene, shown = desk.scene, desk.ledger.shown("next-token")
    if scene.versus is not None:
        desk.look_at(replace(scene, versus=None))
        desk.tell("the target is held against no other token")
        return
    ids = [] if shown is None else [int(token) for token in shown.figure.extra.get("ids", ())]
    if shown is None or scene.target not in ids:
        desk.tell("choose another candidate in the pane of the next token first", "warning")
        return
    against = shown.figure.axes[0].labels[ids.index(scene.target)]
    free = scene if scene.target_pinned else scene.aim(None)
    desk.look_at(replace(free, versus=scene.target))
    desk.tell(f"the answer is held against {quoted_token(against)}")


def copy(desk: LlmscopeApp) -> None:
    """Ask what to copy, by the terminal's own clipboard."""
    from llmscope.tui.features.copy.menu import ask

    ask(desk)


def save(desk: LlmscopeApp) -> None:
    """Ask where to save the pane."""
    from llmscope.tui.features.save.dialog import ask

    if desk.may("save"):
        ask(desk)


def show_help(desk: LlmscopeApp) -> None:
    """Explain the pane that has the focus, or the prompt."""
    # Imported late: the help needs the texts of the lenses.
    from llmscope.tui.dialogs.help import HelpScreen

    inside = not desk.in_prompt
    pane = desk.overview.pane if inside and desk.overview.display else None
    want = None if pane is None else pane.want(desk.scene)
    place: Where = "figures" if inside else "prompt"
    replay = desk.own.replay is not None
    desk.push_screen(
        HelpScreen(
            *(desk.look.theme, None if want is None else want.lens, place, desk.own.keymap),
            None if pane is None or replay else pane.key,
            desk.own,
        )
    )


def jump(desk: LlmscopeApp) -> None:
    """Show a letter on each place, and go to the place whose letter is pressed."""
    from llmscope.tui.dialogs.jump import jump as show_letters

    show_letters(desk)


def tour(desk: LlmscopeApp) -> None:
    """Explain the screen, one part after the other."""
    from llmscope.tui.dialogs.tour import tour as walk

    walk(desk)


def show_palette(desk: LlmscopeApp) -> None:
    """Open the palette: all commands, found by typing."""
    from llmscope.tui.dialogs.command_palette import CommandPaletteScreen

    # The previous palette keeps its id until it is completely removed.
    if not any(isinstance(node, CommandPaletteScreen) for node in desk._nodes):
        desk.push_screen(CommandPaletteScreen())


def stop(desk: LlmscopeApp) -> None:
    """Suspend the program, as ctrl+z does everywhere; give the terminal back meanwhile."""
    if not desk.may("stop"):
        return
    if can_be_resumed():
        desk.action_suspend_process()
    else:
        desk.tell("no shell is here that could bring a stopped program back", "warning")


def leave_program(desk: LlmscopeApp) -> None:
    """Quit; the app's `text` keeps the prompt."""
    if desk.may("quit"):
        desk.exit(0)
