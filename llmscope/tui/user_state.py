"""The user's settings and stored state, as given to the app; no snapshot depends on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmscope.tui.actions.user_keymap import Keymap
from llmscope.tui.modes.mode import LiveMode
from llmscope.tui.session.undo_history import UndoHistory

if TYPE_CHECKING:
    from llmscope.engine.prompt_list import ChatOnDisk, PromptsOnDisk
    from llmscope.tui.features.copy.repro_command import LoaderLike, ModelSource
    from llmscope.tui.features.models.model_switch import Left
    from llmscope.tui.session.autosave import Autosave
    from llmscope.tui.session.session import StoredSession
    from llmscope.tui.state.layout_state import LayoutState
    from llmscope.tui.state.view_state import ViewState


@dataclass(frozen=True)
class UserState:
    """The user's settings and stored state; the defaults belong to no user.

    Attributes:
        keymap: the keys of the actions.
        kept: the layout as the last session left it.
        past: the undo history of the prompt.
        source: how the model was opened, for the command that reproduces the screen.
        newcomer: whether to offer the tour: at the first start, until the user has answered.
        first_look: fields of the focus that an example is first shown with.
        autosave: saves the prompt while it is written.
        session: the session to resume; None starts a new one.
        other: makes the loader of another model from its spec; None if there is no other.
        files: opens a file of prompts or a chat by its path; None if none can be opened.
        left: the prompts of the models that were left in this session, by spec.
        mode: what the screen can do: all of it with a model, less with a file in its place.
        saves_figures: whether figures are stored at the end, and shown at the next start.
        notice: an error in the state of an earlier session; empty if the state is fine.
        greeting: what is said at first; empty for nothing.
        in_figures: whether the figures have the focus at first, and not the prompt.
        typed: keys that were pressed before the screen was there, which wait for the figures.
        anonymous: show nothing that is stored on this machine, such as earlier prompts.
    """

    keymap: Keymap = field(default_factory=Keymap)
    kept: LayoutState | None = None
    past: UndoHistory = field(default_factory=UndoHistory)
    source: ModelSource | None = None
    newcomer: bool = False
    first_look: Mapping[str, Any] = field(default_factory=dict)
    autosave: Autosave | None = None
    session: StoredSession | None = None
    other: Callable[[str], LoaderLike] | None = None
    files: Callable[[str], PromptsOnDisk | ChatOnDisk] | None = None
    left: dict[str, Left] = field(default_factory=dict)
    mode: LiveMode = field(default_factory=LiveMode)
    saves_figures: bool = False
    notice: str = ""
    greeting: str = ""
    in_figures: bool = False
    typed: str = ""
    anonymous: bool = False

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left."""
        state = state if self.kept is None else self.kept.onto(state)
        return state if self.session is None else self.session.onto(state)

    def loaded(self, state: ViewState) -> ViewState:
        """Return the view state as it was left, now that the model is loaded."""
        return state if self.session is None else self.session.loaded(state)

    def lost(self, state: ViewState) -> str:
        """Return what the loaded model lacks of what was left; empty if it is all there."""
        return "" if self.session is None else self.session.lost(state)

    @property
    def panes(self) -> dict[str, Any]:
        """Return the arguments that `PaneGrid` is created with."""
        panes = {} if self.kept is None else self.kept.panes
        return {**panes, "workspaces": self.mode.workspaces, "make": self.mode.pane_factory()}
