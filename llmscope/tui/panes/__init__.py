"""The panes of the Overview, one file each."""

from __future__ import annotations

from llmscope.tui.panes.attention import AttentionPane
from llmscope.tui.panes.map import MapPane
from llmscope.tui.panes.mlp import MlpPane
from llmscope.tui.panes.next_token import NextTokenPane
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.panes.tokens import TokensPane

PANE_CLASSES: tuple[type[FigurePane], ...] = (
    MapPane,
    NextTokenPane,
    AttentionPane,
    MlpPane,
    TokensPane,
)
"""In the order of the screen."""

__all__ = [
    "PANE_CLASSES",
    "AttentionPane",
    "FigurePane",
    "MapPane",
    "MlpPane",
    "NextTokenPane",
    "TokensPane",
]
