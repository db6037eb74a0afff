"""The panes of the Context workspace: update size, proof, growth, and gain by examples."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from llmscope.draw.painting import Painting
from llmscope.engine.events import Want
from llmscope.figure import Axis, Figure, Focus
from llmscope.text import display_text
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

HOW = (
    "Write examples, a line each, and the new case as the last line; or part the two by a line "
    "that is --- and nothing else. Every pane then tells what those lines did to the last one."
)
MEASURES = ("kl", "difference")


class ContextPane(FigurePane):
    """The size of the weight update equivalent to the context, per layer and matrix."""

    key: ClassVar[str] = "context"
    changes: ClassVar[bool] = False
    row: ClassVar[str] = "layer"

    def want(self, state: ViewState) -> Want:
        """Return the want for the update for the last token."""
        return Want(self.key, "context", Focus(mode="last"))

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure without its caption, the residual stream's shift as an extra column."""
        figure = _bare(shown.figure)
        if figure.verdict.status == "refused" and "context" in figure.verdict.reason:
            verdict = replace(figure.verdict, reason=f"{figure.verdict.reason}. {HOW}")
            figure = replace(figure, verdict=verdict)
        shift = figure.extra.get("stream_shift", ())
        if figure.axes and len(shift) == len(figure.axes[0]):
            matrix = replace(figure.axes[1], labels=(*figure.axes[1].labels, "stream"))
            values = np.column_stack([figure.values, shift]).astype(np.float32)
            figure = replace(figure, axes=(figure.axes[0], matrix), values=values)
        return super().draw(replace(shown, figure=figure), focus, tokens)

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` layers."""
        return state.move(layer=by)

    def point(self, state: ViewState, hit: dict[str, int]) -> ViewState:
        """Move the cursor to the layer of the cell."""
        return state.go(layer=hit.get("layer"))


class ProofPane(FigurePane):
    """The predictions with the context, with the update instead, and with neither."""

    key: ClassVar[str] = "context-proof"
    changes: ClassVar[bool] = False

    def want(self, state: ViewState) -> Want:
        """Return the want of `ContextPane`: its figure, computed once for both, has the proof."""
        return Want(self.key, "context", Focus(mode="last"))

    def heading(self, shown: Shown) -> str:
        """Return the title, which depends on whether a taught context is compared."""
        runs = shown.figure.extra.get("runs", ())
        carried = any(run == "taught" for run in runs)
        return "How far it carries" if carried else "Proof"

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the runs of the figure as a table."""
        figure = shown.figure
        if figure.verdict.status != "refused":
            figure = proof(figure)
        return super().draw(replace(shown, figure=figure), focus, tokens)


class StepsPane(LensPane):
    """How far each line or token of the context moves the update."""

    key: ClassVar[str] = "context-steps"
    changes: ClassVar[bool] = False
    row: ClassVar[str] = "layer"
    lens = "context"
    views = ("lines", "tokens")

    def heading(self, shown: Shown) -> str:
        """Return the title, which says what a column is."""
        by = "token" if shown.want.focus.mode == "tokens" else "example"
        return f"Growth · what each {by} adds"

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move by `by` layers."""
        return state.move(layer=by)

    def point(self, state: ViewState, hit: dict[str, int]) -> ViewState:
        """Move the cursor to the layer of the cell."""
        return state.go(layer=hit.get("layer"))


class GainPane(LensPane):
    """The surprisal of the answer (the target, or the likeliest token) by number of examples."""

    key: ClassVar[str] = "context-gain"
    changes: ClassVar[bool] = False
    lens = "context"
    views = ("gain",)
    asks = ("target",)

    def heading(self, shown: Shown) -> str:
        """Return the title with the expected answer."""
        answer = display_text(str(shown.figure.extra.get("answer", "")), whitespace=True)
        return f"Gain · surprisal of ‹{answer}›" if answer else "Gain"


def proof(figure: Figure) -> Figure:
    """Return KL and largest logit difference of the runs of a `context` figure. [run, measure]"""
    extra = figure.extra
    values = np.array([extra[name] for name in MEASURES], dtype=np.float32).T
    return Figure(
        lens=figure.lens,
        title="Proof",
        kind="table",
        axes=(Axis("run", tuple(extra["runs"])), Axis("measure", MEASURES)),
        values=values,
        unit="",
        verdict=figure.verdict,
        extra=_bare(figure).extra,
    )


def _bare(figure: Figure) -> Figure:
    return replace(figure, extra={**figure.extra, "caption": ()})
