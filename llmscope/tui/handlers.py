"""What actions do where it takes more than to move the cursor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.text import quoted_token
from llmscope.tui.terminal.output_guard import can_be_resumed

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Where
    from llmscope.tui.desk import Desk


def up(desk: Desk) -> None:
    """One row up: what a row is, is the pane's own."""
    desk.look_at(desk.overview.pane.step(desk.scene, -1))


def down(desk: Desk) -> None:
    """One row down."""
    desk.look_at(desk.overview.pane.step(desk.scene, 1))


def left(desk: Desk) -> None:
    """One column to the left: what a column is, is the pane's own."""
    desk.look_at(desk.overview.pane.side(desk.scene, -1))


def right(desk: Desk) -> None:
    """One column to the right."""
    desk.look_at(desk.overview.pane.side(desk.scene, 1))


def turn(desk: Desk) -> None:
    """The next view of the pane, or of the main figure if the pane has only one."""
    overview, scene = desk.overview, desk.scene
    turned = overview.pane.turn(scene) or overview.panes[overview.workspace.spine].turn(scene)
    if turned is None:
        desk.tell(overview.pane.one_view, "warning")
    else:
        desk.look_at(turned)


def first_token(desk: Desk) -> None:
    """To the first token."""
    desk.look_at(desk.scene.go(position=0))


def last_token(desk: Desk) -> None:
    """To the last token, which the cursor then follows."""
    desk.look_at(desk.scene.go(position=len(desk.scene.tokens) - 1))


def leave(desk: Desk) -> None:
    """Go from the prompt to the figures, or to what stands in their place."""
    desk.screen.set_focus(desk.card if desk.card.display else desk.overview.pane)


def edit_prompt(desk: Desk) -> None:
    """Go back to the prompt."""
    desk.screen.set_focus(desk.editor)


def chat(desk: Desk) -> None:
    """Put what is typed into the model's chat template, or take it out again."""
    from llmscope.tui.features.models.model_switch import busy

    if not busy(desk):
        desk.chat.toggle(desk)


def next_adapter(desk: Desk) -> None:
    """Switch to the next adapter, or to the base model after the last one."""
    scene = desk.scene.adapted()
    if scene.info is None or not scene.info.adapters:
        desk.tell("no adapter was loaded: llmscope MODEL --adapter ADAPTER", "warning")
        return
    desk.title_line.model(scene.info, scene.adapter)
    desk.look_at(scene)


def pin_target(desk: Desk) -> None:
    """Keep asking about one next token wherever the cursor goes, or stop doing so."""
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


def versus(desk: Desk) -> None:
    """Hold the target against the candidate that is chosen, or no longer against any."""
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


def copy(desk: Desk) -> None:
    """Ask what is to be copied, by the terminal's own clipboard."""
    from llmscope.tui.features.copy.menu import ask

    ask(desk)


def save(desk: Desk) -> None:
    """Ask where the pane is to be saved."""
    from llmscope.tui.features.save.dialog import ask

    if desk.may("save"):
        ask(desk)


def show_help(desk: Desk) -> None:
    """Explain the pane that has the focus, or the prompt."""
    # The page needs the lenses' own words; importing them waits until someone asks.
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


def jump(desk: Desk) -> None:
    """Show a letter on each place, and go where the next one says."""
    # It names the panes, which the registry does.
    from llmscope.tui.dialogs.jump import jump as show_letters

    show_letters(desk)


def tour(desk: Desk) -> None:
    """Walk through the screen, card by card."""
    from llmscope.tui.dialogs.tour import tour as walk

    walk(desk)


def show_palette(desk: Desk) -> None:
    """All commands, found by typing."""
    from llmscope.tui.dialogs.command_palette import CommandPaletteScreen

    # The name of the one before is taken until it is gone for good.
    if not any(isinstance(node, CommandPaletteScreen) for node in desk._nodes):
        desk.push_screen(CommandPaletteScreen())


def stop(desk: Desk) -> None:
    """Stop the program, as ctrl+z does everywhere; the terminal is given back meanwhile."""
    if not desk.may("stop"):
        return
    if can_be_resumed():
        desk.action_suspend_process()
    else:
        desk.tell("no shell is here that could bring a stopped program back", "warning")


def leave_program(desk: Desk) -> None:
    """Leave; the app's `text` keeps what was typed."""
    if desk.may("quit"):
        desk.exit(0)
