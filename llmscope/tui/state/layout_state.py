"""The layout as the user left it, to be restored: workspace, panes, views and modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmscope.tui.state.layout import Arrangement
from llmscope.tui.state.views import ATTENTION_MODES, MAP_VIEWS
from llmscope.tui.state.workspaces import BY_NAME, WORKSPACES, Workspace

if TYPE_CHECKING:
    from llmscope.tui.state.view_state import ViewState


@dataclass(frozen=True)
class LayoutState:
    """The stored layout. Everything is stored by name, since later versions may have more.

    Attributes:
        workspace: the workspace that was on screen.
        arrangements: by workspace: which panes are shown, and in which order.
        view: lens and mode of the map's view.
        attention: the mode of the attention pane.
    """

    workspace: str = WORKSPACES[0].name
    arrangements: Mapping[str, Arrangement] = field(default_factory=dict)
    view: tuple[str, str] = (MAP_VIEWS[0].lens, MAP_VIEWS[0].mode)
    attention: str = ATTENTION_MODES[0]

    @classmethod
    def of(
        cls, workspace: Workspace, arrangements: Mapping[str, Arrangement], state: ViewState
    ) -> LayoutState:
        """Return the layout to store."""
        view = state.map_view
        return cls(workspace.name, dict(arrangements), (view.lens, view.mode), state.attention_mode)

    @property
    def panes(self) -> dict[str, Any]:
        """Return the arguments that `PaneGrid` is created with."""
        return {"workspace": self.workspace, "arrangements": self.arrangements}

    def onto(self, state: ViewState) -> ViewState:
        """Return the view state as it was left; an unknown view or mode changes nothing."""
        views = [(view.lens, view.mode) for view in MAP_VIEWS]
        if self.view in views:
            state = replace(state, view=views.index(self.view))
        if self.attention in ATTENTION_MODES:
            state = replace(state, attention=ATTENTION_MODES.index(self.attention))
        return state

    def to_record(self) -> dict[str, Any]:
        """Return the layout as JSON data."""
        return {
            "workspace": self.workspace,
            "panes": {
                name: {"order": list(one.order), "hidden": sorted(one.hidden)}
                for name, one in self.arrangements.items()
            },
            "view": list(self.view),
            "attention": self.attention,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LayoutState:
        """Return a layout from any JSON data: invalid values become the defaults."""
        view, attention = _words(record.get("view")), record.get("attention")
        workspace, panes = record.get("workspace"), _mapping(record.get("panes"))
        kept = {name: _mapping(panes.get(name)) for name in BY_NAME}
        return cls(
            workspace if isinstance(workspace, str) and workspace in BY_NAME else cls.workspace,
            {
                # Other packages' panes are not known yet: `PaneGrid` drops those that are missing.
                name: Arrangement(
                    tuple(dict.fromkeys((*_words(found.get("order")), *BY_NAME[name].details))),
                    frozenset(_words(found.get("hidden"))),
                )
                for name, found in kept.items()
            },
            (view[0], view[1]) if len(view) == 2 else cls.view,
            attention if isinstance(attention, str) else cls.attention,
        )


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _words(found: object) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
