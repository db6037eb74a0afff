"""The panes of a report on the screen: figures whose cursor is a layer and a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from llmscope.draw.render_options import RenderOptions
from llmscope.figure.cursor import focused_index
from llmscope.report.figures import ends_text, value_text
from llmscope.support.text import display_text
from llmscope.tui.modes.replay.pane_map import PaneFigure
from llmscope.tui.modes.replay.panes import ReplayPane
from llmscope.tui.panes import FigurePane


class ReportPane(ReplayPane):
    """A figure of a report: up and down go through the layers, left and right through the heads."""

    row: ClassVar[str] = "layer"
    column: ClassVar[str] = "head"

    def described(self) -> str:
        """Return the mean under the cursor, as `layer 3, head 2: -0.41 [-0.5, -0.3] n=200`."""
        figure, places, words = self.held.figure, list[int](), list[str]()
        for axis in figure.axes:
            place = focused_index(axis, self._state.focus)
            if place is None:
                return ""
            places.append(place)
            words.append(f"{axis.name} {axis.labels[place]}")
        if not places or "low" not in figure.extra:
            return ""
        at = tuple(places)
        low, high, prompts = (figure.extra[name][at] for name in ("low", "high", "prompts"))
        mean = value_text(float(figure.values[at]), figure.unit)
        ends = ends_text(float(low), float(high), int(prompts), figure.unit)
        return display_text(f"{', '.join(words)}: {mean} {ends}")


def panes_of(figures: Sequence[PaneFigure], look: RenderOptions) -> dict[str, FigurePane]:
    """Return the panes by their keys."""
    panes: dict[str, FigurePane] = {}
    for figure in figures:
        pane = type("ReportPane", (ReportPane,), {"key": figure.key, "held": figure})
        panes[figure.key] = pane(look)
    return panes
