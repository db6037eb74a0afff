"""Where a head looks."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from llmscope.draw.grid.layout import pool_for
from llmscope.edits import Edit
from llmscope.engine.events import SPAN, Want
from llmscope.figure import Focus
from llmscope.tui.panes.pane import FigurePane
from llmscope.tui.state.view_state import ViewState
from llmscope.tui.state.views import OF_ONE_HEAD

MARGIN, HEAD = 9, 2
"""Cells of the pane that labels, and rows that names and words, take from the picture."""


class AttentionPane(FigurePane):
    """The pattern of the cursor's layer and head; its rows are tokens that look."""

    key: ClassVar[str] = "attention"

    def want(self, scene: ViewState) -> Want:
        """One head's pattern, or all heads' reduced to one.

        Of a long prompt it is the part around the cursor, or all of it in blocks of tokens.
        """
        mode, count = scene.attention_mode, len(scene.tokens)
        focus = Focus(
            layer=scene.focus.layer, head=scene.focus.head if mode in OF_ONE_HEAD else 0, mode=mode
        )
        if scene.whole:
            pool = pool_for(count, min(self.size.width - MARGIN, self.size.height - HEAD))
            return Want(self.key, "attention", replace(focus, pool=pool))
        if count > SPAN:
            focus = replace(focus, position=scene.asked_position)
        return Want(self.key, "attention", focus)

    def edit_here(self, scene: ViewState) -> Edit | None:
        """The head is zeroed."""
        return scene.zero_head
