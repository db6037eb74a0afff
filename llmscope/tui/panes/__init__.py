"""The panes, one file for each pane or group of related panes."""

from __future__ import annotations

from llmscope.tui.panes.attention import AttentionPane
from llmscope.tui.panes.context import ContextPane, GainPane, ProofPane, StepsPane
from llmscope.tui.panes.contrast import ContrastPane, DivergencePane, WordPane
from llmscope.tui.panes.edits import EditsPane
from llmscope.tui.panes.lens import (
    AllHeadsPane,
    AttributionHeadsPane,
    AttributionPane,
    HeadsPane,
    NeuronActivationPane,
    NeuronTokensPane,
    SaliencyPane,
)
from llmscope.tui.panes.map import MapPane
from llmscope.tui.panes.mlp import MlpPane
from llmscope.tui.panes.next_token import NextTokenPane
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.panes.stages import StagesKlPane, StagesPane
from llmscope.tui.panes.tokens import TokensPane
from llmscope.tui.panes.walk_values import ValuesPane
from llmscope.tui.panes.walkthrough import SaidPane, WalkthroughPane
from llmscope.tui.panes.what_if import AblationPane, PatchingPane

PANE_CLASSES: tuple[type[FigurePane], ...] = (
    MapPane,
    NextTokenPane,
    AttentionPane,
    MlpPane,
    TokensPane,
    HeadsPane,
    AllHeadsPane,
    NeuronTokensPane,
    NeuronActivationPane,
    AttributionPane,
    AttributionHeadsPane,
    SaliencyPane,
    ContextPane,
    ProofPane,
    StepsPane,
    GainPane,
    EditsPane,
    AblationPane,
    PatchingPane,
    WalkthroughPane,
    ValuesPane,
    SaidPane,
    ContrastPane,
    DivergencePane,
    WordPane,
    StagesPane,
    StagesKlPane,
)

__all__ = [
    "PANE_CLASSES",
    "AttentionPane",
    "ContextPane",
    "FigurePane",
    "GainPane",
    "MapPane",
    "MlpPane",
    "NextTokenPane",
    "ProofPane",
    "StepsPane",
    "TokensPane",
]
