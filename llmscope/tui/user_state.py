"""The user's settings and stored state, as given to the app; no snapshot depends on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscope.tui.actions.keymap import Keymap
from llmscope.tui.actions.registry import OF_A_FILE
from llmscope.tui.session.undo_history import UndoHistory
from llmscope.tui.state.workspaces import WORKSPACES, Workspace

if TYPE_CHECKING:
    from llmscope.tui.actions.types import Action
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.features.models.model_switch import Left, LoaderLike
    from llmscope.tui.host import Host
    from llmscope.tui.replay import Replay
    from llmscope.tui.session.autosave import Autosave
    from llmscope.tui.session.session import Session
    from llmscope.tui.state.layout_state import LayoutState
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.widgets.header import Part


REFUSED = "this is a replay: there is no model for"


@dataclass(frozen=True)
class UserState:
    """The user's settings and stored state; the defaults belong to no user.

    Attributes:
        keymap: the keys of the actions.
        kept: the layout as the last session left it.
        past: the undo history of the prompt.
        source: how the model was opened, for the command that reproduces the screen.
        newcomer: whether this is the first start, where the tour is offered.
        first_look: fields of the focus that an example is first shown with.
        autosave: saves the prompt while it is written.
        session: the session to resume; None starts a new one.
        other: makes the loader of another model from its spec; None if there is no other.
        left: the prompts of the models that were left in this session, by spec.
        replay: the snapshot that is shown in place of a model; None if there is a model.
        notice: an error in the state of an earlier session; empty if the state is fine.
        anonymous: show nothing that is stored on this machine, such as earlier prompts.
    """

    keymap: Keymap = field(default_factory=Keymap)
    kept: LayoutState | None = None
    past: UndoHistory = field(default_factory=UndoHistory)
    source: ModelSource | None = None
    newcomer: bool = False
    first_look: Mapping[str, Any] = field(default_factory=dict)
    autosave: Autosave | None = None
    session: Session | None = None
    other: Callable[[str], LoaderLike] | None = None
    left: dict[str, Left] = field(default_factory=dict)
    replay: Replay | None = None
    notice: str = ""
    anonymous: bool = False

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left."""
        state = state if self.kept is None else self.kept.onto(state)
        return state if self.session is None else self.session.onto(state)

    def loaded(self, state: ViewState) -> ViewState:
        """Return the view state as it was left, now that the model is loaded."""
        return state if self.session is None else self.session.loaded(state)

    def offers(self, action: str) -> bool:
        """Return whether an action is available, with a model or in a replay."""
        if self.replay is not None:
            return self.replay.offers(action)
        return not any(one.name == action for one in OF_A_FILE)

    def refuse(self, host: Host, action: Action) -> None:
        """Tell why an action is not offered; say nothing if it is one that needs a replay."""
        if self.replay is not None:
            host.tell(f"{REFUSED}: {action.title}", "warning")

    def titled(self, action: Action) -> str:
        """Return an action's title for the palette and the help."""
        return action.full_title if self.replay is None else self.replay.titled(action)

    def said(self, host: Host) -> list[str]:
        """Return the clauses that describe what is under the cursor."""
        from llmscope.tui.widgets.status_text import clauses

        try:
            return clauses(host.state, host.figures.shown, host.grid.workspace.name)
        except Exception:  # the file of a replay may lack any value that is read
            if self.replay is None:
                raise
            return []

    @property
    def workspaces(self) -> Sequence[Workspace]:
        """Return all workspaces."""
        return WORKSPACES if self.replay is None else self.replay.workspaces

    @property
    def banner(self) -> Sequence[Part]:
        """Return the right side of the header; empty to show the cost of a pass there."""
        return () if self.replay is None else self.replay.banner

    @property
    def panes(self) -> dict[str, Any]:
        """Return the arguments that `PaneGrid` is created with."""
        if self.replay is not None:
            return {"workspaces": self.replay.workspaces, "make": self.replay.panes}
        return {} if self.kept is None else self.kept.panes
