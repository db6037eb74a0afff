"""Where a head looks."""

from __future__ import annotations

from typing import ClassVar

from llmscope.engine.events import Want
from llmscope.figure import Focus
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.scene import Scene


class AttentionPane(FigurePane):
    """The pattern of the cursor's layer and head; its rows are tokens that look."""

    key: ClassVar[str] = "attention"

    def want(self, scene: Scene) -> Want:
        """One head's pattern, or all heads' reduced to one."""
        mode = scene.attention_mode
        head = scene.focus.head if mode == "raw" else 0
        return Want(self.key, "attention", Focus(layer=scene.focus.layer, head=head, mode=mode))
