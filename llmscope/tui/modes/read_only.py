"""The replay of a snapshot on the screen: a file in place of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from textual import events
from textual.content import Content

from llmscope.support.text import display_text
from llmscope.tui.actions.registry import BY_NAME
from llmscope.tui.actions.types import Action
from llmscope.tui.modes.mode import LiveMode

if TYPE_CHECKING:
    from llmscope.draw.render_options import RenderOptions
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.host import Host
    from llmscope.tui.panes import FigurePane
    from llmscope.tui.state.figure_store import Shown
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.state.workspaces import Workspace
    from llmscope.tui.widgets.header import Part

REFUSED = "this is a replay: there is no model for"
READ_ONLY = "this is a replay: the prompt is read only, for there is no model to read another one"
REPLAY_HELP = """\
This is a replay of a snapshot: the figures of a file, drawn as they were, without the model that \
made them. The cursor walks as far as they go: a pane says what is not in this snapshot, and for \
which place it holds something. The prompt is read only. {provenance} tells where the numbers came \
from: model, weights, device, versions and command."""
WRITES = ("delete", "cut", "paste", "undo", "redo")
"""Prefixes of those actions of a text area that change its text."""


@dataclass(frozen=True, kw_only=True)
class Replay(LiveMode):
    """A snapshot shown on the screen.

    Attributes:
        about: the file's data besides its figures, copied into snapshots saved from it.
        command: the command that wrote the file; None if the file does not name it.
        banner: the right side of the header, each part with its rank for being dropped.
        facts: where the numbers came from, as pairs of name and value.
        workspaces: the pages that hold the figures.
        panes: makes the panes, by key; called after the first paint.
    """

    about: Mapping[str, Any]
    command: str | None
    banner: tuple[Part, ...] = field()  # without `field` the class would inherit a default
    facts: tuple[tuple[str, str], ...] = field()
    workspaces: tuple[Workspace, ...] = field()
    panes: Callable[[RenderOptions], dict[str, FigurePane]]
    read_only: bool = True
    subject: str = "A replay"
    help: str = REPLAY_HELP
    refused: str = REFUSED
    hints: str = "replay"

    def offers(self, action: str) -> bool:
        """Return whether an action can run without a model."""
        if action.startswith("menu-"):
            return True  # what it lists is asked for one by one
        if action == "copy-command":
            return self.command is not None
        kind, _, name = action.partition("-")
        if kind == "pane" and any(name in workspace.panes for workspace in self.workspaces):
            return True
        known = BY_NAME.get(action)
        return (known is not None and known.offline) or self.page(action) is not None

    def page(self, action: str) -> Workspace | None:
        """Return the page that a workspace action shows; None if it shows no page."""
        from llmscope.tui.state.workspaces import WORKSPACES

        places = zip(WORKSPACES, self.workspaces, strict=False)
        return next((page for at, page in places if action == f"workspace-{at.name}"), None)

    def title_of(self, action: Action) -> str:
        """Return an action's title for the palette and the help."""
        page = self.page(action.name)
        if page is None:
            return action.full_title
        at, count = self.workspaces.index(page) + 1, len(self.workspaces)
        return f"{action.area}: {page.title}{f', page {at} of {count}' * (count > 1)}"

    def blocks(self, host: Host, event: events.Event) -> bool:
        """Return whether an event would change the prompt; if so, tell why it is refused."""
        if not isinstance(event, events.Key | events.Paste) or not host.in_prompt:
            return False
        if isinstance(event, events.Key) and not (event.is_printable or event.key == "enter"):
            bound = host.editor._bindings.key_to_bindings.get(event.key, ())
            if not any(binding.action.startswith(WRITES) for binding in bound):
                return False
        host.tell(READ_ONLY, "warning", once=True)
        return True

    def pane_factory(self) -> Callable[[RenderOptions], dict[str, FigurePane]]:
        """Return the factory of the panes of the file's figures, by key."""
        return self.panes

    def usage(self, pane: FigurePane | None) -> None:
        """Return None: the panes of a file have no help of their own."""

    def clauses(self, host: Host) -> list[str]:
        """Return the clauses about the cursor; none where the file lacks a value that is read."""
        try:
            return super().clauses(host)
        except Exception:
            return []

    def jump_letters(self, panes: Mapping[str, FigurePane]) -> dict[str, str]:
        """Return letters by the panes' titles: the panes differ from file to file."""
        from llmscope.tui.dialogs.jump import PROMPT, letters

        return letters({PROMPT: "prompt", **{key: pane.called for key, pane in panes.items()}})

    def commands(
        self, source: ModelSource, result: Shown, state: ViewState
    ) -> list[tuple[str, str, str]]:
        """Return the command that wrote the file."""
        return [("c", "the command that wrote the file", self.command or "")]

    def opening_command(self, host: Host) -> str:
        """Return nothing: the command that wrote the file is what a replay has."""
        return ""

    def figure_metadata(
        self, source: ModelSource, result: Shown, state: ViewState, suffix: str
    ) -> Callable[[dict[str, Any] | None], dict[str, Any] | None]:
        """Return a function that returns the file's own metadata."""
        return lambda _: dict(self.about)


def provenance(host: Host) -> None:
    """Show where the numbers of the file came from."""
    from llmscope.tui.dialogs.page import PageScreen

    facts, styles = host.mode.current_facts(), host.text_styles
    width = max((len(name) for name, _ in facts), default=0)
    rows = [
        Content.assemble((f"{name:<{width}}  ", styles.dim), (display_text(fact), styles.text))
        for name, fact in facts
    ]
    host.push_screen(PageScreen("Where it came from", Content("\n").join(rows)))
