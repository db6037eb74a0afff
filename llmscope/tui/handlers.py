"""Handlers of the actions that do more than move the cursor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmscope.support.text import one_line, quoted_token
from llmscope.tui.state.workspaces import FIRST, tab_title
from llmscope.tui.terminal.output_guard import can_be_resumed

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Where
    from llmscope.tui.host import Host

WALKTHROUGH = "walkthrough"
"""The workspace whose steps play, and where one goes to the inputs of a step and back."""


def up(host: Host) -> None:
    """Move one row up; each pane defines its own rows."""
    host.look_at(host.grid.pane.step(host.state, -1))


def down(host: Host) -> None:
    """Move one row down."""
    host.look_at(host.grid.pane.step(host.state, 1))


def left(host: Host) -> None:
    """Move one column to the left; each pane defines its own columns."""
    host.look_at(host.grid.pane.side(host.state, -1))


def right(host: Host) -> None:
    """Move one column to the right."""
    host.look_at(host.grid.pane.side(host.state, 1))


def page(host: Host, by: int) -> None:
    """Move down by `by` pages of the pane; up for a negative `by`."""
    host.look_at(host.grid.pane.page(host.state, by))


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


def go_to(host: Host) -> None:
    """Open the dialog for a place by its number."""
    from llmscope.tui.dialogs.go_to import GoToScreen

    if not host.holds(GoToScreen):
        host.push_screen(GoToScreen(host))


def first_token(host: Host) -> None:
    """Go to the first token."""
    host.look_at(host.state.move_to(position=0))


def last_token(host: Host) -> None:
    """Go to the last token, which the cursor then follows."""
    host.look_at(host.state.move_to(position=len(host.state.tokens) - 1))


def move_step(host: Host, by: int) -> None:
    """Go `by` steps of a run forward."""
    moment = host.state.moment
    if moment is not None:
        host.look_at(replace(host.state, moment=moment.moved(by)))


def go_to_step(host: Host, step: int) -> None:
    """Go to a step of a run by its index; -1 is the newest."""
    moment = host.state.moment
    if moment is not None:
        host.look_at(
            replace(host.state, moment=moment.at(step if step >= 0 else moment.steps + step))
        )


def leave(host: Host) -> None:
    """Go from the prompt to the figures, or to the placeholder in their place."""
    widget = host.placeholder if host.placeholder.display else host.grid.pane
    host.grid.screen.set_focus(widget)  # also below a dialog, which keeps its own focus


def edit_prompt(host: Host) -> None:
    """Go back to the prompt."""
    host.screen.set_focus(host.editor)


def chat(host: Host) -> None:
    """Put the typed text into the model's chat template, or take it out again."""
    if not host.models.busy(host):
        host.chat.toggle(host)


def next_adapter(host: Host) -> None:
    """Switch to the next adapter, or to the base model after the last one."""
    state = host.state.with_next_adapter()
    if state.info is None or not state.info.adapters:
        host.tell("no adapter was loaded: llmscope MODEL --adapter ADAPTER", "warning")
        return
    host.header.model(state.info, state.adapter)
    host.look_at(state)
    named = None if state.adapter is None else one_line(state.adapter)
    host.tell("the base model, without an adapter" if named is None else f"the adapter {named}")


def pin_target(host: Host) -> None:
    """Pin the target token, so that it stays wherever the cursor goes; or unpin it."""
    state, shown = host.state, host.figures.shown("next-token")
    if state.target_pinned:
        host.look_at(state.set_target(None, pinned=False))
        host.tell("the target is the most probable token again")
        return
    ids = [] if shown is None else [int(token) for token in shown.figure.extra.get("ids", ())]
    if shown is None or not ids:
        host.tell("no next token on screen to pin", "warning")
        return
    target = state.target if state.target in ids else ids[0]
    host.look_at(state.set_target(target, pinned=True))
    host.tell(f"target pinned: {quoted_token(shown.figure.axes[0].labels[ids.index(target)])}")


def versus(host: Host) -> None:
    """Compare the target with the chosen candidate, else with the likeliest other one, or stop."""
    state, shown = host.state, host.figures.shown("next-token")
    if state.versus is not None:
        host.look_at(replace(state, versus=None))
        host.tell("the target is held against no other token")
        return
    ids = [] if shown is None else [int(token) for token in shown.figure.extra.get("ids", ())]
    answer = state.target if state.target_pinned else next(iter(ids), None)
    others = [token for token in ids if token != answer]
    rival = state.target if state.target in others else next(iter(others), None)
    if shown is None or rival is None:
        host.tell("no candidates on screen to hold the target against", "warning")
        return
    against = shown.figure.axes[0].labels[ids.index(rival)]
    free = state if state.target_pinned else state.set_target(None)
    host.look_at(replace(free, versus=rival))
    host.tell(f"the answer is held against {quoted_token(against)}")


def copy(host: Host) -> None:
    """Ask what to copy, by the terminal's own clipboard."""
    from llmscope.tui.features.copy.menu import ask

    ask(host)


def save(host: Host) -> None:
    """Ask where to save the pane."""
    from llmscope.tui.features.save.dialog import ask

    if host.may("save"):
        ask(host)


def show_help(host: Host) -> None:
    """Explain the pane that has the focus, or the prompt."""
    # Imported late: the help needs the texts of the lenses.
    from llmscope.tui.actions.menus import without_empty_menus
    from llmscope.tui.actions.types import listed
    from llmscope.tui.dialogs.help import HelpScreen

    if host.tour_line is not None and host.tour_line.at is None:
        _put_away_offer(host)
    inside = not host.in_prompt
    pane = host.grid.pane if inside and host.grid.display else None
    want = None if pane is None else pane.want(host.state)
    place: Where = "figures" if inside else "prompt"
    host.push_screen(
        HelpScreen(
            *(host.look, None if want is None else want.lens, place, host.user.keymap),
            *(host.mode.usage(pane), host.mode),
            without_empty_menus(
                [action for action in host.user.keymap.actions if listed(host, action)]
            ),
            lambda: tour(host),
        )
    )


def show_messages(host: Host) -> None:
    """List the notices of this session."""
    from llmscope.tui.dialogs.messages import MessagesScreen

    times = not host.user.anonymous  # a picture must not depend on when it was taken
    host.push_screen(MessagesScreen(tuple(host.messages), host.look.theme, times=times))


def jump(host: Host) -> None:
    """Show a letter on each place, and go to the place whose letter is pressed."""
    from llmscope.tui.dialogs.jump import jump as show_letters

    show_letters(host)


def tour(host: Host) -> None:
    """Take the tour, a step after the other; it is not offered any more."""
    _put_away_offer(host)
    host.begin_tour()


def hide_tour_offer(host: Host) -> None:
    """Hide the line of the tour, for good."""
    shown = host.tour_line is not None and host.tour_line.display
    _put_away_offer(host)
    if not shown:
        host.tell(host.user.keymap.filled("nothing to hide: the tour is in the help, {help}"))


def _put_away_offer(host: Host) -> None:
    """Hide the offer of the tour for good, or end the tour."""
    from llmscope.tui.session.state_file import changing

    line = host.tour_line
    if line is None or not line.display:
        return
    if line.at is None:
        with changing() as state:
            state.put("tour", "offered")
    line.end()


def show_palette(host: Host) -> None:
    """Open the palette: all commands, found by typing."""
    from llmscope.tui.dialogs.command_palette import CommandPaletteScreen

    if not host.holds(CommandPaletteScreen):
        host.push_screen(CommandPaletteScreen(host))


def go_out(host: Host) -> None:
    """Leave what was entered last: a search, the running work, a pane with all the room, a step.

    Last of all a prompt that was opened from a list. Stopping the work keeps the figures on screen.
    """
    if host.state.query:
        from llmscope.tui.features.dictionaries import search

        search.leave(host)
    elif host.stop_work():
        return
    elif host.grid.maximized:
        host.grid.maximize()
    elif host.walkthrough.trail and host.grid.workspace.name == WALKTHROUGH:
        host.walkthrough.back(host)
    elif host.state.prompts is not None:
        host.prompt_list.back(host)


def toggle(host: Host) -> None:
    """Play the walkthrough, or stop it; elsewhere switch the chosen edit off or on."""
    from llmscope.tui.features.edits import controller as edits
    from llmscope.tui.features.walkthrough import controller as walkthrough

    if host.grid.workspace.name == WALKTHROUGH:
        walkthrough.play(host, 1)
    else:
        edits.toggle(host)


def stop(host: Host) -> None:
    """Suspend the program, and give the terminal back meanwhile."""
    if not host.may("stop"):
        return
    if can_be_resumed():
        host.action_suspend_process()
    else:
        host.tell("no shell is here that could bring a stopped program back", "warning")


def leave_program(host: Host) -> None:
    """Quit; the app's `text` keeps the prompt."""
    if host.may("quit"):
        host.exit(0)
