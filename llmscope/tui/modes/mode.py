"""What the screen can do: all of it with a live model, a part with the figures of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llmscope.tui.state.workspaces import WORKSPACES, Workspace

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.actions.types import Action
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.host import Host
    from llmscope.tui.panes import FigurePane
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.widgets.header import Part

REPLAY_ACTIONS = frozenset(("provenance",))
"""Actions that only a replay offers."""


def of_run(action: str) -> bool:
    """Return whether only the screen of a run offers an action, which its name tells."""
    return action.startswith("run-")


class LiveMode:
    """The screen with a model that answers; `Replay` overrides what needs one.

    Attributes:
        read_only: whether the prompt can only be read, and the figures have the focus at first.
        workspaces: all workspaces.
        banner: the right side of the header, each part with its rank for being dropped; empty to
            show the cost of a pass there.
        facts: where the numbers of a file came from, as pairs of name and value.
        subject: the heading of the help where no lens has one.
        help: text that is added to the help page.
        refused: what is said before the title of an action that is not offered.
        hints: the group of key hints that applies wherever the focus is, a key of `FOOTER`; empty
            where it depends on the pane.
    """

    read_only: bool = False
    workspaces: Sequence[Workspace] = WORKSPACES
    banner: Sequence[Part] = ()
    facts: Sequence[tuple[str, str]] = ()
    subject: str = ""
    help: str = ""
    refused: str = ""
    hints: str = ""

    def current_facts(self) -> Sequence[tuple[str, str]]:
        """Return where the numbers on screen came from, as pairs of name and value."""
        return self.facts

    def offers(self, action: str) -> bool:
        """Return whether an action is available."""
        return action not in REPLAY_ACTIONS and not of_run(action)

    def explain_refusal(self, host: Host, action: Action) -> None:
        """Tell why an action is not offered, unless none is missed here.

        Silent for esc, which stops a pass elsewhere, and for one that only a replay offers.
        """
        if self.refused and action.name != "cancel":
            host.tell(f"{self.refused}: {action.title}", "warning")

    def blocks(self, host: Host, event: events.Event) -> bool:
        """Return whether an event is not to be handled; if so, tell why."""
        return False

    def title_of(self, action: Action) -> str:
        """Return an action's title for the palette and the help."""
        return action.full_title

    def hint_group(self, pane: str) -> str:
        """Return which key hints apply while a pane has the focus, a key of `FOOTER`."""
        return self.hints or ("edits" if pane == "edits" else "figures")

    def bars(self) -> Sequence[Widget]:
        """Return the widgets between the tabs and the panes."""
        return ()

    def begin(self, host: Host) -> None:
        """Start what goes on by itself, once the screen is there."""

    def present(self, host: Host) -> None:
        """Show the view state in the widgets of `bars`."""

    def play(self, host: Host) -> None:
        """Go through the steps of a run, or stop that."""

    def turn_prompt(self, host: Host, by: int) -> None:
        """Show the prompt of a run that is `by` places on."""

    def pane_factory(self) -> Callable[[RenderOptions], dict[str, FigurePane]] | None:
        """Return the factory of the panes, by key; None for those of the workspaces."""
        return None

    def usage(self, pane: FigurePane | None) -> str | None:
        """Return how to use a pane, for the help page; None without a pane that has help."""
        return None if pane is None else pane.usage

    def clauses(self, host: Host) -> list[str]:
        """Return the clauses that describe what is under the cursor."""
        from llmscope.tui.widgets.status_text import clauses

        prompts, workspace = host.state.prompts, host.grid.workspace.name
        if prompts is not None and workspace == "prompts":
            from llmscope.tui.panes.prompts import describe_chosen

            return describe_chosen(prompts)
        return clauses(host.state, host.figures.shown, workspace, host.grid.on_screen)

    def jump_letters(self, panes: Mapping[str, FigurePane]) -> dict[str, str]:
        """Return the letter that jumps to each pane, by its key."""
        from llmscope.tui.dialogs.jump import ALPHABET, LETTERS

        free = (letter for letter in ALPHABET if letter not in LETTERS.values())
        return {key: LETTERS.get(key) or next(free) for key in panes}

    def commands(
        self, source: ModelSource, result: Shown, state: ViewState
    ) -> list[tuple[str, str, str]]:
        """Return commands that reproduce a figure: (key, label, text); empty texts are left out."""
        from llmscope.tui.features.copy.repro_command import command, view
        from llmscope.tui.features.copy.repro_script import Surroundings, script

        reproduced = view(source, result, state)
        if reproduced is None:
            return []
        return [
            ("s", "the command that prints this figure", command(reproduced) or ""),
            (
                "p",
                "the figure and all that is set, in Python",
                script(reproduced, Surroundings.of(reproduced, state)),
            ),
        ]

    def opening_command(self, host: Host) -> str:
        """Return the command that opens this screen; empty if none can."""
        from llmscope.tui.session.shared_state import command, state_of

        return command(state_of(host)) if host.source.named else ""

    def figure_metadata(
        self, source: ModelSource, result: Shown, state: ViewState, suffix: str
    ) -> Callable[[dict[str, Any] | None], dict[str, Any] | None]:
        """Return a function that returns the metadata of a saved figure, given its provenance."""
        from llmscope.tui.features.save.provenance import about

        return partial(about, source, result, state, suffix)
