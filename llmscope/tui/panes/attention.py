"""The attention pane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from llmscope.draw.grid.layout import pool_for
from llmscope.edits import Edit, Where
from llmscope.edits.edit import Part
from llmscope.engine.events import SPAN, Want
from llmscope.figure import Focus
from llmscope.support.text import display_text
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.token_measures import query_focus
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.views import (
    ATTENTION_MODES,
    ATTENTION_VIEWS,
    ATTENTION_WORDS,
    OF_ONE_HEAD,
    ONE_QUERY,
)

MARGIN, HEAD = 9, 2
"""Columns taken by the row labels, and rows taken by the column labels, in cells."""


class AttentionPane(FigurePane):
    """The attention pattern of the cursor's layer and head. [query, key]"""

    key: ClassVar[str] = "attention"
    snapshots: ClassVar[Mapping[str, tuple[str, ...]]] = {"attention": ATTENTION_MODES}
    words: ClassVar[str] = (
        "attention, attn, attention pattern, attention map, attention weights, attention matrix, "
        "self-attention, QK, query key, where a head looks"
    )
    usage: ClassVar[str] = """\
Up and down move by tokens, {head-previous} and {head-next} by heads; {attention-mode} goes round \
one head, the mean and the maximum. Of a long prompt it holds the part around the cursor, and \
{whole} shows all of it in blocks. The last view is one token over the whole text: its row of the \
pattern, by head and in the mean, with what it looks at most. {edit-block} takes away what the \
cursor's token reads of the token it looks at most, of one head or of the layer, and the rest of \
the row shares the attention: again takes the next.

Vaswani et al. 2017, "Attention Is All You Need"; sinks: Xiao et al. 2023, "Efficient Streaming \
Language Models with Attention Sinks"."""

    views: ClassVar[tuple[str, ...]] = ATTENTION_VIEWS
    view_words: ClassVar[Mapping[str, str]] = {
        **ATTENTION_WORDS,
        ONE_QUERY: "one token over the whole text, one query, where does this token look, "
        "attention from here, attention strip, all heads of one query, long text",
    }

    def want(self, state: ViewState) -> Want:
        """Return the want for one head's pattern, or for all heads' patterns reduced to one.

        For a long prompt, ask for the part around the cursor, or for all of it in blocks of tokens.
        """
        mode, count = state.attention_mode, len(state.tokens)
        if mode == ONE_QUERY:
            return Want(self.key, "attention", query_focus(state, "all"))
        focus = Focus(
            layer=state.focus.layer, head=state.focus.head if mode in OF_ONE_HEAD else 0, mode=mode
        )
        if state.whole:
            pool = pool_for(count, min(self.size.width - MARGIN, self.size.height - HEAD))
            return Want(self.key, "attention", replace(focus, pool=pool))
        if count > SPAN:
            focus = replace(focus, position=state.requested_position)
        return Want(self.key, "attention", focus)

    def heading(self, result: Shown) -> str:
        """Return the title; for one query, with its token."""
        axes = result.figure.axes
        if len(axes) < 3 or not len(axes[1]):
            return super().heading(result)
        word = display_text(axes[1].labels[0], whitespace=True).replace(" · ", " ")
        layer = result.figure.extra["layer"]
        return f"Attention of ‹{word}› · layer {layer}, {len(axes[0])} heads"

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Move the cursor to the token of the cell, or choose the head of a strip."""
        if "head" in hit:
            return state.move_to(head=hit["head"])
        return super().point(state, hit)

    def value_at(self, hit: Mapping[str, int]) -> str:
        """Return the value of a cell in words; none where a cell stands for several tokens."""
        of_one_query = self._state.attention_mode == ONE_QUERY
        return "" if of_one_query else super().value_at(hit)

    def view_index(self, state: ViewState) -> int:
        """Return the index of the mode that is shown."""
        return state.attention

    def show_view(self, state: ViewState, index: int) -> ViewState:
        """Return the view state with one of the modes."""
        return replace(state, attention=index)

    def edit_here(self, state: ViewState) -> Edit | None:
        """Return the edit that zeroes the head under the cursor."""
        return state.zero_head

    def knockout_here(self, state: ViewState) -> Edit | None:
        """Return the edit that stops the cursor's token from reading the key that it reads most.

        It is of the head that is shown, or of the whole layer where several are shown as one. None
        for a figure of another place, of blocks of tokens, or that holds no earlier key.
        """
        result, mode = self._shown, state.attention_mode
        if result is None or not result.at(state) or mode == "rollout":
            return None
        figure, layer, head = result.figure, state.focus.layer, state.focus.head
        *heads, queries, keys = figure.axes
        row = queries.index(state.focus.position)
        if figure.extra.get("layer") != layer or row is None or max(queries.step, keys.step) > 1:
            return None
        if not heads and figure.extra.get("head") not in (None, head):
            return None
        weights = figure.values[head, row] if heads else figure.values[row]  # [key]
        earlier = np.abs(weights[: state.focus.position - keys.start])
        if not np.nansum(earlier) > 0:
            return None
        key, at = keys.start + int(np.nanargmax(earlier)), state.focus.position
        whole = not heads and figure.extra.get("head") is None
        part: Part = "attention" if whole else "head"
        places = Where(at, at), Where(key, key)
        return Edit(
            "block", part, layer, None if whole else head, where=places[0], source=places[1]
        )
