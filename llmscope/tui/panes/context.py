"""The panes of the Context workspace: update size, proof, growth, and gain by examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from llmscope.draw.painting import Painting
from llmscope.engine.events import Want
from llmscope.figure import Axis, Figure, Focus
from llmscope.support.text import display_text
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

MEASURES = ("kl", "difference")


class ContextPane(FigurePane):
    """The size of the weight update equivalent to the context, per layer and matrix."""

    key: ClassVar[str] = "context"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {"context": ("last",)}
    words: ClassVar[str] = "weight update of the context, implicit weight update, delta W"
    usage: ClassVar[str] = """\
A line --- in the prompt says where the context ends; the model is never given that line. Without \
one the last line is the query. {context-mark} puts the mark after the line of the text cursor.

The last column is the stream: how far its vector after the attention is from that of the patched \
run before the shift, ‖u - u₀‖ / ‖u‖. Up and down move by layers.

{teach} teaches the context to the weights and leaves the query alone in the prompt: type another \
one, and the proof tells how far the change carries, often not far. {teach} once more is the base \
model again, and undo in the prompt brings the context back. {bake} writes the change as a PEFT \
adapter."""
    changes: ClassVar[bool] = False
    row: ClassVar[str] = "layer"

    def want(self, state: ViewState) -> Want:
        """Return the want for the update for the last token."""
        return Want(self.key, "context", Focus(mode="last"))

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure without its caption, the residual stream's shift as an extra column."""
        figure = _bare(result.figure)
        shift = figure.extra.get("stream_shift", ())
        if figure.axes and len(shift) == len(figure.axes[0]):
            matrix = replace(figure.axes[1], labels=(*figure.axes[1].labels, "stream"))
            values = np.column_stack([figure.values, shift]).astype(np.float32)
            figure = replace(figure, axes=(figure.axes[0], matrix), values=values)
        return super().draw(replace(result, figure=figure), focus, tokens)


class ProofPane(FigurePane):
    """The predictions with the context, with the update instead, and with neither."""

    key: ClassVar[str] = "context-proof"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {"context": ("last",)}
    words: ClassVar[str] = "proof, equivalence, exactness"
    usage: ClassVar[str] = """\
A row is a run of the model: what it says next and how probable that is, KL(with the context ‖ \
this run) in nats after the last token, and the largest difference of a logit. 0 nats: the same \
distribution. The patched run does without the context and says the same up to rounding; the naive \
patch, each layer for itself, does not. With a taught context on, the rows are the base model that \
reads the context before this prompt, the taught model, and the base alone."""
    changes: ClassVar[bool] = False

    def want(self, state: ViewState) -> Want:
        """Return the want of `ContextPane`: its figure, computed once for both, has the proof."""
        return Want(self.key, "context", Focus(mode="last"))

    def heading(self, result: Shown) -> str:
        """Return the title, which depends on whether a taught context is compared."""
        runs = result.figure.extra.get("runs", ())
        carried = any(run == "taught" for run in runs)
        return "How far it carries" if carried else "Proof"

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the runs of the figure as a table."""
        figure = result.figure
        if figure.verdict.status != "refused":
            figure = proof(figure)
        return super().draw(replace(result, figure=figure), focus, tokens)


class StepsPane(LensPane):
    """How far each line or token of the context moves the update."""

    key: ClassVar[str] = "context-steps"
    words: ClassVar[str] = "growth, update by example"
    usage: ClassVar[str] = """\
A column is an example of the context, a line or what stands between blank lines; {map-view} makes \
it a token. A cell is how far it moves the update of that layer. Up and down move by layers."""
    changes: ClassVar[bool] = False
    row: ClassVar[str] = "layer"
    lens = "context"
    views = ("lines", "tokens")
    view_words: ClassVar[Mapping[str, str]] = {
        "lines": "by example, by line",
        "tokens": "by token",
    }

    def heading(self, result: Shown) -> str:
        """Return the title, which says what a column is."""
        token = result.want.focus.mode == "tokens"
        by = "token" if token else result.figure.extra.get("part", "example")
        return f"Growth · what each {by} adds"


class GainPane(LensPane):
    """The surprisal of the answer (the target, or the likeliest token) by number of examples."""

    key: ClassVar[str] = "context-gain"
    words: ClassVar[str] = "gain, learning curve, number of shots, shots"
    usage: ClassVar[str] = """\
From left to right, the number of examples before the query; the height is the surprisal of the \
answer, in bits: lower is better known. The answer is what the whole prompt makes likeliest, or \
the target that {pin-target} pinned."""
    changes: ClassVar[bool] = False
    lens = "context"
    views = ("gain",)
    asks = ("target",)

    def heading(self, result: Shown) -> str:
        """Return the title with the expected answer."""
        answer = display_text(str(result.figure.extra.get("answer", "")), whitespace=True)
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
