"""What a person made their own, as the screen is given it: nothing of it changes a snapshot."""

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
    from llmscope.tui.desk import Desk
    from llmscope.tui.features.copy.repro_command import ModelSource
    from llmscope.tui.features.models.model_switch import Left, LoaderLike
    from llmscope.tui.replay import Replay
    from llmscope.tui.session.autosave import Autosave
    from llmscope.tui.session.session import Session
    from llmscope.tui.state.layout_state import LayoutState
    from llmscope.tui.state.view_state import ViewState
    from llmscope.tui.widgets.header import Part


REFUSED = "this is a replay: there is no model for"


@dataclass(frozen=True)
class UserState:
    """A person's settings; the defaults are nobody's in particular.

    Attributes:
        keymap: the keys of the actions.
        kept: how the screen was left.
        past: what undo and redo in the prompt reach back to.
        source: how the model was opened, for the command that shows the same.
        newcomer: nobody was here before, so that the tour is offered.
        first_look: fields of the focus that an example is first shown with.
        autosave: saves the prompt while it is written.
        session: the session to go on with; None: a new one.
        other: makes what loads another model, of its spec; None: there is no other.
        left: the prompts of the models that were left in this session, by spec.
        replay: the snapshot that is shown in the place of a model; None: there is a model.
        notice: what is wrong with what an earlier session left; empty if nothing is.
        anonymous: show nothing that somebody has left on this machine, such as earlier prompts.
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

    def onto(self, scene: ViewState) -> ViewState:
        """The scene as it was left."""
        scene = scene if self.kept is None else self.kept.onto(scene)
        return scene if self.session is None else self.session.onto(scene)

    def loaded(self, scene: ViewState) -> ViewState:
        """The same, once the model is there."""
        return scene if self.session is None else self.session.loaded(scene)

    def offers(self, action: str) -> bool:
        """Whether there is anything here that an action could be done with."""
        if self.replay is not None:
            return self.replay.offers(action)
        return not any(one.name == action for one in OF_A_FILE)

    def refuse(self, desk: Desk, action: Action) -> None:
        """Say why an action is not offered; its key is free where that is for want of a replay."""
        if self.replay is not None:
            desk.tell(f"{REFUSED}: {action.title}", "warning")

    def titled(self, action: Action) -> str:
        """How the palette and the help call it."""
        return action.full_title if self.replay is None else self.replay.titled(action)

    def said(self, desk: Desk) -> list[str]:
        """The cursor read aloud."""
        from llmscope.tui.widgets.status_text import clauses

        try:
            return clauses(desk.scene, desk.ledger.shown, desk.overview.workspace.name)
        except Exception:  # a file may lack anything that is read
            if self.replay is None:
                raise
            return []

    @property
    def workspaces(self) -> Sequence[Workspace]:
        """All there are."""
        return WORKSPACES if self.replay is None else self.replay.workspaces

    @property
    def banner(self) -> Sequence[Part]:
        """The right side of the title; empty: what a pass cost."""
        return () if self.replay is None else self.replay.banner

    @property
    def panes(self) -> dict[str, Any]:
        """What the panes are opened with."""
        if self.replay is not None:
            return {"workspaces": self.replay.workspaces, "make": self.replay.panes}
        return {} if self.kept is None else self.kept.panes
