"""The base class of panes that compare the prompt with prompt B."""

from __future__ import annotations

from dataclasses import replace

from llmscope.draw.painting import Painting
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.edits import NO_B
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.state.figure_store import Shown


class VersusPane(LensPane):
    """A pane for a lens that needs a prompt B."""

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure; without a prompt B, explain how to set one."""
        if shown.request.versus_prompt is None and shown.figure.verdict.status == "refused":
            figure = Figure.refused(self.lens, self.called, self.filled(NO_B))
            shown = replace(shown, figure=figure)
        return super().draw(shown, focus, tokens)
