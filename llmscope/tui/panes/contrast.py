"""The workspace Compare: this prompt, A, held against prompt B, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, plain_text
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import BORDER
from llmscope.edits import Edit
from llmscope.figure import Figure, Focus
from llmscope.text import display_text
from llmscope.tui.panes.pairs import paint_pairs
from llmscope.tui.panes.versus import VersusPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.prompt_pairs import DemoPair, pairs_for
from llmscope.tui.state.view_state import ViewState

if TYPE_CHECKING:
    from llmscope.tui.desk import Desk

UNSEEN = "the cue comes later"
"""What a title says where the token cannot know of what the prompts differ in."""
HEADINGS = {
    "cosine": ("A and B", "cosine of the same token"),
    "centred": ("A and B", "cosine of the same token, mean taken off"),
    "attention": ("A", "attention to what only A has"),
    "attention-difference": ("A − B", "attention to what differs"),
    "kl": ("KL of predictions", "A‖B, B‖A"),
    "word": ("", "cosine of A and B"),
    "lens": ("", "two lists of words"),
}
"""What a title says of each mode, for panes that are narrow; the empty first part is the token."""
BLANK = "blank: only in A"
"""What the legend says where tokens have no counterpart."""
SHORT = {"same token": "same", "different tokens": "different", "same, mean taken off": "centred"}
"""What a narrow pane calls the curves of the word."""
WIDE = 68
"""Cells of a pane from which on they have their whole names."""
DIGITS = 6
"""Decimals of a cosine that float32 has: the ramp would stretch over what is less."""
ATTENTION = ("attention", "attention-difference")
"""The modes whose columns are heads."""


class ContrastPane(VersusPane):
    """What the two prompts made of each token that both have, layer by layer."""

    key: ClassVar[str] = "contrast"
    row: ClassVar[str] = "layer"
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("cosine", "centred", *ATTENTION)
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, shown: Shown) -> str:
        """What is compared, and whether the cue is out of sight."""
        return heading(shown)

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Streams that are the same up to rounding are drawn as the same."""
        figure = shown.figure
        if figure.unit == "cosine":
            figure = replace(figure, values=figure.values.round(DIGITS))
        painting = super().draw(replace(shown, figure=figure), focus, tokens)
        alone = figure.axis("position") is not None and bool(np.isnan(figure.values).all(0).any())
        return noted(painting, BLANK, self.size.width, self._look) if alone else painting

    def _picture(self) -> Painting:
        if self._scene.versus_prompt is not None:
            return super()._picture()
        at = self._scene.pair % max(1, len(self._pairs))
        return paint_pairs(self._pairs, at, *self.size, self._look, self.filled)

    def _heading(self) -> Content:
        return super()._heading() if self._scene.versus_prompt is not None else Content("Compare")

    @property
    def _pairs(self) -> tuple[DemoPair, ...]:
        return pairs_for(cast("Desk", self.app).source.spec)

    @property
    def picked(self) -> DemoPair | None:
        """The pair that is chosen while there is no prompt B."""
        pairs = self._pairs
        picking = self._scene.versus_prompt is None and pairs
        return pairs[self._scene.pair % len(pairs)] if picking else None

    def step(self, scene: ViewState, by: int) -> ViewState:
        """Up and down are layers; without a prompt B they are pairs to pick."""
        if scene.versus_prompt is None:
            return replace(scene, pair=max(0, min(scene.pair + by, len(self._pairs) - 1)))
        return scene.move(layer=by)

    def side(self, scene: ViewState, by: int) -> ViewState:
        """Left and right are heads where columns are, else tokens."""
        heads = scene.view_of(self.key, self.views) in ATTENTION
        return scene.move(head=by) if heads else scene.move(position=by)

    def point(self, scene: ViewState, hit: dict[str, int]) -> ViewState:
        """The layer and the token, or the head, of the cell; or a pair."""
        if "pair" in hit:
            return replace(scene, pair=hit["pair"])
        layer = self.layer_at(hit.get("layer"))
        return scene.go(layer=layer, position=hit.get("position"), head=hit.get("head"))

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The head is zeroed where the cell is one."""
        return scene.zero_head if scene.view_of(self.key, self.views) in ATTENTION else None


def noted(painting: Painting, note: str, width: int, look: RenderOptions) -> Painting:
    """A painting whose legend says one thing more, if a border of such a pane has room for it."""
    ink = styles_for(look)
    text = f" {ink.glyphs.separator} {plain_text(note, look.ascii)}"
    legend = painting.legend or ()
    if not legend or sum(part.cell_length for part in legend) + cell_len(text) > width - BORDER:
        return painting
    return replace(
        painting, legend=(*legend, *Line().add(text, ink.dim).row(cell_len(text), ink.dim))
    )


class DivergencePane(VersusPane):
    """How far the predictions of the two prompts part after each token."""

    key: ClassVar[str] = "contrast-kl"
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("kl",)
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, shown: Shown) -> str:
        """What is compared, and whether the cue is out of sight."""
        return heading(shown)


class WordPane(DivergencePane):
    """The token under the cursor in both prompts: how alike, and what it says, layer by layer."""

    key: ClassVar[str] = "contrast-word"
    views: ClassVar[tuple[str, ...]] = ("word", "lens")

    def draw(self, shown: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """The curves, with names that fit below them."""
        figure = shown.figure
        if figure.kind == "lines" and self.size.width < WIDE:
            first, *rest = figure.axes
            labels = tuple(SHORT.get(label, label) for label in first.labels)
            figure = replace(figure, axes=(replace(first, labels=labels), *rest))
        return super().draw(replace(shown, figure=figure), focus, tokens)


def heading(shown: Shown) -> str:
    """A title that tells, before it says how, where a token cannot know what differs."""
    extra = shown.figure.extra
    first, how = HEADINGS[shown.want.focus.mode]
    place = extra.get("position", shown.want.focus.position)
    token = shown.tokens[min(place, len(shown.tokens) - 1)]
    word = display_text(token.text, whitespace=True).replace(" · ", " ")
    return " · ".join([first or f"‹{word}›", *([UNSEEN] if extra.get("unseen") else []), how])
