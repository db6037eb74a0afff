"""The layout as the user left it, to be restored: workspace, panes, views and modes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from llmscope.tui.state.layout import Arrangement
from llmscope.tui.state.views import ATTENTION_VIEWS, MAP_VIEWS
from llmscope.tui.state.workspaces import WORKSPACES, Workspace

if TYPE_CHECKING:
    from llmscope.tui.state.view_state import ViewState


class LayoutState(Struct, frozen=True, rename={"arrangements": "panes"}):
    """The stored layout, by names. Other packages and later versions may have more of them.

    Attributes:
        workspace: the workspace that was on screen.
        arrangements: by workspace: which panes are shown, and in which order. `PaneGrid` drops
            the panes that are missing, once those of other packages are known.
        view: lens and mode of the map's view.
        attention: the mode of the attention pane.
        tabs: the workspaces that have a tab beside those that are always there.
    """

    workspace: str = WORKSPACES[0].name
    arrangements: Mapping[str, Arrangement] = {}
    view: tuple[str, str] = (MAP_VIEWS[0].lens, MAP_VIEWS[0].mode)
    attention: str = ATTENTION_VIEWS[0]
    tabs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        arrangements: Mapping[str, Arrangement],
        state: ViewState,
        tabs: Collection[str],
    ) -> LayoutState:
        """Return the layout to store."""
        view = state.map_view
        return cls(
            workspace.name,
            dict(arrangements),
            (view.lens, view.mode),
            state.attention_mode,
            tabs=tuple(sorted(tabs)),
        )

    @property
    def panes(self) -> dict[str, Any]:
        """Return the arguments that `PaneGrid` is created with."""
        return {
            "workspace": self.workspace,
            "arrangements": self.arrangements,
            "tabs": self.tabs,
        }

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left; an unknown view or mode changes nothing."""
        views = [(view.lens, view.mode) for view in MAP_VIEWS]
        if self.view in views:
            state = replace(state, view=views.index(self.view))
        if self.attention in ATTENTION_VIEWS:
            state = replace(state, attention=ATTENTION_VIEWS.index(self.attention))
        return state
