"""The actions that have no feature of their own: focus, help, the tour, going out, quitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmscope.support.text import one_line
from llmscope.tui.terminal.output_guard import can_be_resumed

if TYPE_CHECKING:
    from llmscope.tui.host import Host

WALKTHROUGH = "walkthrough"
"""The workspace whose steps play, and where one goes to the inputs of a step and back."""


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


def show_help(host: Host) -> None:
    """Explain the pane that has the focus, or the prompt."""
    from llmscope.tui.dialogs.help import HelpScreen  # it needs the texts of the lenses

    if host.tour_line is not None and host.tour_line.at is None:
        _put_away_offer(host)
    host.push_screen(HelpScreen(host))


def tour(host: Host) -> None:
    """Take the tour, a step after the other; it is not offered any more."""
    _put_away_offer(host)
    host.begin_tour()


def hide_tour_offer(host: Host) -> None:
    """Hide the line of the tour, for good."""
    visible = host.tour_line is not None and host.tour_line.display
    _put_away_offer(host)
    if not visible:
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
