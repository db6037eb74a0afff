"""How a person left the screen, to be found again: its panes, the map's view, attention's mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmscope.tui.layout import Arrangement
from llmscope.tui.scene import ATTENTION_MODES, MAP_VIEWS, Scene


@dataclass(frozen=True)
class Kept:
    """What is kept of a screen. Views and modes are kept by name: there may be more one day.

    Attributes:
        arrangement: which panes are shown, and in which order.
        view: lens and mode of the map's view.
        attention: the mode of the attention pane.
    """

    arrangement: Arrangement = field(default_factory=Arrangement)
    view: tuple[str, str] = (MAP_VIEWS[0].lens, MAP_VIEWS[0].mode)
    attention: str = ATTENTION_MODES[0]

    @classmethod
    def of(cls, arrangement: Arrangement, scene: Scene) -> Kept:
        """What is to be kept."""
        view = scene.map_view
        return cls(arrangement, (view.lens, view.mode), scene.attention_mode)

    def onto(self, scene: Scene) -> Scene:
        """The scene as it was left; a view or mode that is not known changes nothing."""
        views = [(view.lens, view.mode) for view in MAP_VIEWS]
        if self.view in views:
            scene = replace(scene, view=views.index(self.view))
        if self.attention in ATTENTION_MODES:
            scene = replace(scene, attention=ATTENTION_MODES.index(self.attention))
        return scene

    def to_record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "order": list(self.arrangement.order),
            "hidden": sorted(self.arrangement.hidden),
            "view": list(self.view),
            "attention": self.attention,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Kept:
        """From what a file holds, whatever that is: what does not fit is as it was at first."""
        view, attention = _words(record.get("view")), record.get("attention")
        return cls(
            Arrangement.of(_words(record.get("order")), _words(record.get("hidden"))),
            (view[0], view[1]) if len(view) == 2 else cls.view,
            attention if isinstance(attention, str) else cls.attention,
        )


def _words(found: object) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
