"""The panes of the tab A and B for two prompts: the prompt (A) against B, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, plain_text
from llmscope.draw.painting import Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import BORDER
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text
from llmscope.tui.panes.lens import LensPane
from llmscope.tui.panes.pairs import paint_pairs
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.prompt_pairs import DemoPair, pairs_for
from llmscope.tui.state.view_state import ViewState

UNSEEN = "the cue comes later"
"""Title remark for a token that comes before the difference between the prompts."""
HEADINGS = {
    "cosine": ("A and B", "cosine of the same token"),
    "centred": ("A and B", "cosine of the same token, mean taken off"),
    "attention": ("A", "attention to what only A has"),
    "attention-difference": ("A − B", "attention to what differs"),
    "kl": ("KL of predictions", "A‖B, B‖A"),
    "word": ("", "cosine of A and B"),
    "lens": ("", "two lists of words"),
}
"""Title parts per mode, short for narrow panes; an empty first part is replaced by the token."""
BLANK = "blank: only in A"
"""Legend text for tokens without a counterpart."""
SHORT = {"same token": "same", "different tokens": "different", "same, mean taken off": "centred"}
"""Short names of the word's curves, for narrow panes."""
WIDE = 68
"""Minimum pane width in cells for the full names."""
DIGITS = 6
"""Decimals of a cosine kept: the color ramp would stretch over smaller float32 rounding errors."""
ATTENTION = ("attention", "attention-difference")
"""The modes whose columns are heads."""


class ContrastPane(LensPane):
    """Similarity or attention of the two prompts per layer, for each token that both have."""

    key: ClassVar[str] = "contrast"
    layer_rows: ClassVar[int | None] = 4
    words: ClassVar[str] = "contrast, cosine of A and B, representation similarity"
    usage: ClassVar[str] = """\
Two prompts stand above the figures, A and B, and each letter in either shows at once. {write-b} \
goes to B from anywhere, {edit} to A, {onward} from A to B; {keep-b} keeps this prompt as B. Where \
there is no B yet, up and down choose a pair to begin with and {take} takes it. The cursor is in \
both: B marks the token that A's is aligned with. {change} shows A − B in the other panes, in \
every workspace: blank at tokens that only A has, 0 where both have seen the same.

{map-view} goes round the cosine of each token's two streams, the same with the mean taken off, \
and the attention to what only one of the prompts has, where left and right are heads. Up and down \
move by layers, left and right by tokens. A token that only A has shows nothing. Where the title \
says that what differs comes later, the token cannot know of it: put the cue first."""
    row: ClassVar[str] = "layer"
    lists = ("pair",)
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("cosine", "centred", *ATTENTION)
    view_words: ClassVar[Mapping[str, str]] = {
        "cosine": "cosine of the streams, cosine between prompts",
        "centred": "mean-centred cosine, centred cosine, anisotropy",
        "attention": "attention to what only one prompt has, attention to the difference",
        "attention-difference": "difference of attention, attention difference",
    }
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, result: Shown) -> str:
        """Return the title: what is compared, and whether the cue comes later."""
        return heading(result)

    def message(self, result: Shown, state: ViewState) -> str:
        """Return the text in place of a refused figure; empty where the list of pairs is shown."""
        return "" if state.versus_prompt is None else super().message(result, state)

    def message_rows(self, result: Shown, state: ViewState, width: int) -> int:
        """Return the rows of its message, or of the list of pairs and how to take one."""
        if state.versus_prompt is None:
            return len(self._pairs) + 1
        return super().message_rows(result, state, width)

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the figure with cosines rounded, so that streams equal up to rounding look equal."""
        figure = result.figure
        if figure.unit == "cosine":
            figure = replace(figure, values=figure.values.round(DIGITS))
        painting = super().draw(replace(result, figure=figure), focus, tokens)
        alone = figure.axis("position") is not None and bool(np.isnan(figure.values).all(0).any())
        return append_note(painting, BLANK, self.size.width, self._look) if alone else painting

    def _picture(self) -> Painting:
        if self._state.versus_prompt is not None:
            return super()._picture()
        at = self._state.pair % max(1, len(self._pairs))
        return paint_pairs(self._pairs, at, *self.size, self._look, self.filled)

    def _heading(self) -> Content:
        return super()._heading() if self._state.versus_prompt is not None else Content("A and B")

    @property
    def _pairs(self) -> tuple[DemoPair, ...]:
        return pairs_for(self.host.source.spec)

    @property
    def picked(self) -> DemoPair | None:
        """The selected pair while there is no prompt B; otherwise None."""
        pairs = self._pairs
        picking = self._state.versus_prompt is None and pairs
        return pairs[self._state.pair % len(pairs)] if picking else None

    def row_axis(self, state: ViewState) -> str:
        """Return that rows are layers, or the pairs of the list without a prompt B."""
        return "pair" if state.versus_prompt is None else self.row

    def listed(self, state: ViewState) -> Sequence[DemoPair]:
        """Return the pairs while there is no prompt B."""
        return self._pairs if state.versus_prompt is None else ()

    def chosen_row(self, state: ViewState) -> int:
        """Return the row of the selected pair."""
        return state.pair

    def choose_row(self, state: ViewState, row: int) -> ViewState:
        """Return the view state with a pair selected."""
        return replace(state, pair=row)

    def column_axis(self, state: ViewState) -> str:
        """Return that columns are tokens, or heads in some views."""
        return "head" if state.view_of(self.key, self.views) in ATTENTION else self.column


def append_note(painting: Painting, note: str, width: int, look: RenderOptions) -> Painting:
    """Append `note` to the legend of a painting, if a pane border of `width` cells has room."""
    style_set = styles_for(look)
    text = f" {style_set.glyphs.separator} {plain_text(note, look.ascii)}"
    legend = painting.legend or ()
    if not legend or sum(part.cell_length for part in legend) + cell_len(text) > width - BORDER:
        return painting
    return replace(
        painting,
        legend=(*legend, *Line().add(text, style_set.dim).row(cell_len(text), style_set.dim)),
    )


class DivergencePane(LensPane):
    """The KL divergence between the predictions of the two prompts after each token."""

    key: ClassVar[str] = "contrast-kl"
    words: ClassVar[str] = "KL, KL divergence, divergence, Kullback-Leibler, distribution shift"
    usage: ClassVar[str] = """\
A row is a token of A, the columns are the divergence of the two predictions after it, both ways. \
Below are the tokens whose probability differs most after the one under the cursor."""
    changes: ClassVar[bool] = False
    lens: ClassVar[str] = "contrast"
    views: ClassVar[tuple[str, ...]] = ("kl",)
    asks: ClassVar[tuple[str, ...]] = ("position",)

    def heading(self, result: Shown) -> str:
        """Return the title: what is compared, and whether the cue comes later."""
        return heading(result)


class WordPane(DivergencePane):
    """The token under the cursor by layer: cosine of A and B, or logits of two word lists."""

    key: ClassVar[str] = "contrast-word"
    words: ClassVar[str] = "word sense, polysemy, homonym, same word in both, disambiguation"
    usage: ClassVar[str] = """\
From left to right the layers. {map-view} changes between how alike the token under the cursor is \
in A and in B, and what its stream says of two lists of words; {words} writes those. A word that \
is more than one token counts by its first, and a notice says so."""
    views: ClassVar[tuple[str, ...]] = ("word", "lens")
    view_words: ClassVar[Mapping[str, str]] = {
        "word": "how alike it is, similarity of the word",
        "lens": "two lists of words, senses of the word",
    }

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the curves, with short names in a narrow pane."""
        figure = result.figure
        if figure.kind == "lines" and self.size.width < WIDE:
            first, *rest = figure.axes
            labels = tuple(SHORT.get(label, label) for label in first.labels)
            figure = replace(figure, axes=(replace(first, labels=labels), *rest))
        return super().draw(replace(result, figure=figure), focus, tokens)


def heading(result: Shown) -> str:
    """Return the title, with `UNSEEN` in it if the token comes before the difference."""
    extra = result.figure.extra
    first, how = HEADINGS[result.want.focus.mode]
    place = extra.get("position", result.want.focus.position)
    token = result.tokens[min(place, len(result.tokens) - 1)]
    word = display_text(token.text, whitespace=True).replace(" · ", " ")
    return " · ".join([first or f"‹{word}›", *([UNSEEN] if extra.get("unseen") else []), how])
