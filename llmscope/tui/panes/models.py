"""The panes of the tab A and B for two models: this model (A) against a second one (B)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from llmscope.draw.grid.layout import NARROWEST_TEXT
from llmscope.draw.painting import Painting
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.map import visible_span
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

HEADINGS = {
    "kl": "Predictions · KL(A ‖ B)",
    "log-ratio": "Predictions · log p_A − log p_B of each token",
    "lens": "Models · KL(A ‖ B) of the logit lens",
    "difference": "Models · ‖a − b‖ / ‖a‖ of the streams",
    "streams": "Streams · cosine and CKA by layer",
    "parts": "Changed parts · B on A's input",
}
"""Titles per mode, short for narrow panes."""
SHORT = {"attention": "attn"}
"""Short names of parts."""


class ModelsPane(LensPane):
    """A pane that compares the two models."""

    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "model-diff"

    def heading(self, result: Shown) -> str:
        """Return a short title, since the pane is narrow."""
        return HEADINGS[result.want.focus.mode]


class ModelsMapPane(ModelsPane):
    """How far apart the two models are after each layer, for each token."""

    key: ClassVar[str] = "models"
    layer_rows: ClassVar[int | None] = 5
    words: ClassVar[str] = (
        "two models, model diff, model diffing, compare models, second model, base and fine-tuned, "
        "full and quantized, checkpoints side by side"
    )
    usage: ClassVar[str] = """\
Two models read this prompt, A and B, and each letter shows in both. The header names them; \
llmscope MODEL --versus-model OTHER opens both. The other workspaces show A, and {change} shows \
A − B in their panes. {map-view} changes between how far apart the two logit lenses are, and how \
far apart the streams are. Up and down move by layers, left and right by tokens.

The row below the prompt has the KL of the two predictions after each token, on every workspace; \
≠ marks where the likeliest tokens differ."""
    row: ClassVar[str] = "layer"
    views: ClassVar[tuple[str, ...]] = ("lens", "difference")
    view_words: ClassVar[Mapping[str, str]] = {
        "lens": "KL of the logit lenses, logit lens of two models",
        "difference": "distance of the streams, relative difference, where they part",
    }

    def want(self, state: ViewState) -> Want:
        """Return the want for the visible columns."""
        mode = state.view_of(self.key, self.views)
        focus = Focus(mode=mode, layer=state.focus.layer, position=state.requested_position)
        if state.info is not None:
            focus = replace(focus, span=visible_span(state, self.size, NARROWEST_TEXT))
        return Want(self.key, self.lens, focus)


class ModelsKlPane(ModelsPane):
    """How far apart the predictions of the two models are after each token."""

    key: ClassVar[str] = "models-kl"
    words: ClassVar[str] = "KL of two models, perplexity of two models, agreement, same top token"
    usage: ClassVar[str] = """\
A bar is how far apart the predictions after a token are, KL(A ‖ B) in nats. Below is how often \
both have the same likeliest token, and the tokens whose probability differs most after the one \
under the cursor. {map-view} shows how much likelier each token of the prompt is to A than to B."""
    views: ClassVar[tuple[str, ...]] = ("kl", "log-ratio")
    view_words: ClassVar[Mapping[str, str]] = {
        "kl": "KL of the predictions",
        "log-ratio": "log ratio of each token, log-likelihood ratio",
    }
    asks: ClassVar[tuple[str, ...]] = ("position",)


class ModelsNextPane(ModelsPane):
    """The next token in both models, side by side."""

    key: ClassVar[str] = "models-next"
    most_rows: ClassVar[int | None] = 14
    words: ClassVar[str] = "next token of two models, predictions side by side"
    usage: ClassVar[str] = """\
The candidates for the next token, with their probability in A and in B."""
    views: ClassVar[tuple[str, ...]] = ("next",)
    asks: ClassVar[tuple[str, ...]] = ("position", "top_k")

    def heading(self, result: Shown) -> str:
        """Return the title with the token that the predictions are of."""
        place = result.figure.extra.get("position", -1)
        token = result.tokens[min(place, len(result.tokens) - 1)]
        word = display_text(token.text, whitespace=True).replace(" · ", " ")
        return f"Next in both · after ‹{word}›"


class ModelsStreamsPane(ModelsPane):
    """How alike the streams of the two models are, layer by layer."""

    key: ClassVar[str] = "models-streams"
    words: ClassVar[str] = "CKA, cosine of two models, representation similarity of models"
    usage: ClassVar[str] = """\
From left to right the layers: the cosine of the two streams at the token under the cursor, its \
median over the prompt, and the CKA of all tokens. Below is the first layer that parts by more \
than rounding."""
    views: ClassVar[tuple[str, ...]] = ("streams",)
    asks: ClassVar[tuple[str, ...]] = ("position",)


class ModelsPartsPane(ModelsPane):
    """Which heads and MLPs of B write otherwise than those of A, on A's input."""

    key: ClassVar[str] = "models-parts"
    layer_rows: ClassVar[int | None] = 5
    words: ClassVar[str] = "changed heads, changed parts, what changed, which head changed"
    usage: ClassVar[str] = """\
Each head, attention and MLP of B gets what it reads in A, so that a cell is lit where its own \
weights changed. Up and down are layers, left and right heads. It takes a pass of its own, so that \
it waits for a pause in typing."""
    row: ClassVar[str] = "layer"
    column: ClassVar[str] = "head"
    views: ClassVar[tuple[str, ...]] = ("parts",)
    view_words: ClassVar[Mapping[str, str]] = {"parts": "parts of both"}
    slow: ClassVar[bool] = True

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the map, with a name of the attention that is as short as the columns."""
        figure = result.figure
        if len(figure.axes) > 1:
            rows, parts = figure.axes
            labels = tuple(SHORT.get(label, label) for label in parts.labels)
            figure = replace(figure, axes=(rows, replace(parts, labels=labels)))
        return super().draw(replace(result, figure=figure), focus, tokens)
