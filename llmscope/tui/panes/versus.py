"""What panes share that hold the prompt against prompt B."""

from __future__ import annotations

from dataclasses import replace

from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.edits import NO_B
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.workspaces import PANES


class VersusPane(LensPane):
    """A lens that needs a prompt B."""

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The figure; without a prompt B, how to have one."""
        if shown.request.versus_prompt is None and shown.figure.verdict.status == "refused":
            figure = Figure.refused(self.lens, PANES[self.key], self.filled(NO_B))
            shown = replace(shown, figure=figure)
        return super().draw(shown, focus, tokens)
