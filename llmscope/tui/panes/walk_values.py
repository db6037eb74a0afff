"""The values pane: the tensor of the selected walkthrough step, or a weight that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from llmscope.draw import styles_for
from llmscope.draw.cells import Line, fit, wrap
from llmscope.draw.painters.walkthrough.value import cell_facts, cell_said
from llmscope.draw.painters.walkthrough.values import cell_at
from llmscope.draw.painting import Painting, Row
from llmscope.engine.events import Want
from llmscope.figure import Figure, Focus
from llmscope.tui.panes.walkthrough import VALUES, WalkPane
from llmscope.tui.state.figure_store import Shown
from llmscope.tui.state.view_state import ViewState

LEFT = 3
"""Minimum number of rows for the numbers when the text about one of them is below."""
ROOMY = 6
"""Minimum number of text rows at which each fact is on its own line."""
SPACIOUS = 70
"""Minimum width in cells at which the status text has room for the name of a number."""
SHARE = 2
"""The text may take one row in this many of the pane."""


class ValuesPane(WalkPane):
    """The numbers of the selected step; the arrow keys move a cursor in them."""

    key: ClassVar[str] = VALUES
    words: ClassVar[str] = "values, numbers of the step, weights of the step, QKV values"
    usage: ClassVar[str] = """\
The numbers of the step that is chosen in the table: a row is a token where the step has tokens, \
of the head under the cursor where it has heads. The arrows walk among them, a click goes to one, \
and the words tell of the number under the cursor: its formula, the largest terms where it is a \
sum and what all others make together, and of which numbers it was made. {step-from} goes to \
those, {step-back} comes back.

{map-view} shows the weights that the step reads, one after the other, and then again what comes \
out of it. Weights are what the model has learned: they are the same for every text. Of what is \
larger than 64 × 64 the part around the cursor is there, and follows it; tokens of a large \
vocabulary stand in the order of their numbers, the largest first."""
    row: ClassVar[str] = "row"
    column: ClassVar[str] = "column"
    views: ClassVar[tuple[str, ...]] = ("values",)

    @classmethod
    def snapshot_modes(cls) -> Mapping[str, tuple[str, ...]]:
        """Return none: the numbers belong to a cursor that a file lacks."""
        return {}

    def want(self, state: ViewState) -> Want:
        """Return the want for the numbers of the step, or of a weight, around the cursor."""
        want, focus = super().want(state), state.focus
        place = replace(want.focus, step=state.step, weight=focus.weight, cell=focus.cell)
        return replace(want, focus=place)

    def step(self, state: ViewState, by: int) -> ViewState:
        """Move the cursor by `by` rows."""
        return self._move_in_matrix(state, down=by)

    def side(self, state: ViewState, by: int) -> ViewState:
        """Move the cursor by `by` columns."""
        return self._move_in_matrix(state, across=by)

    def turn(self, state: ViewState, by: int = 1) -> ViewState | None:
        """Show another weight that the step reads; after the last one, the step's output again."""
        result = self.values_shown()
        if result is None:
            return self._beginning(state)
        weights = result.figure.extra["weights"]
        return state.with_next_weight(len(weights), by) if weights else None

    def point(self, state: ViewState, hit: Mapping[str, int]) -> ViewState:
        """Move the cursor to the number that was clicked."""
        result = self.values_shown()
        if result is None:
            return state
        rows, columns = result.figure.axes
        named = "row" in hit or "column" in hit
        row = hit.get("row" if named else rows.name)
        column = hit.get("column" if named else columns.name)
        if row is None or column is None:
            return state
        if not named and (rows.name, columns.name) == ("query", "key"):  # token positions
            row, column = row - rows.start, column - columns.start
        return state.at_cell(cell_at(result.figure, row, column))

    def _move_in_matrix(self, state: ViewState, down: int = 0, across: int = 0) -> ViewState:
        result = self.values_shown()
        if result is None:
            return self._beginning(state)
        extra = result.figure.extra
        row, column = state.focus.cell or extra["cell"]["at"]
        rows, columns = extra["plane"]
        row = max(0, min(row + down, rows - 1))
        ids = [int(token) for token in extra.get("ids", ())]
        if not ids:
            column = max(0, min(column + across, columns - 1))
        elif column in ids:  # vocabulary tokens sorted by value
            column = ids[max(0, min(ids.index(column) + across, len(ids) - 1))]
        return state.at_cell((row, column))

    def _beginning(self, state: ViewState) -> ViewState:
        """Return to the output of the step if the layer has no such cell or weight."""
        result = self._shown
        if result is None or result.figure.verdict.status != "refused":
            return state
        return replace(state, focus=replace(state.focus, weight=None, cell=None))

    def draw(self, result: Shown, focus: Focus, tokens: Figure | None = None) -> Painting:
        """Draw the numbers, and the text about one below if `StepTextPane` is not on screen."""
        extra = {**result.figure.extra, "caption": ()}
        plain = replace(result, figure=replace(result.figure, extra=extra))
        if "seen" not in extra or not (self.among or focus.cell is not None):
            return super().draw(plain, replace(focus, cell=None))
        focus = replace(focus, cell=focus.cell or tuple(extra["cell"]["at"]))
        text_rows = () if self.said_beside else self._cell_text_rows(result.figure)
        if not text_rows:
            return super().draw(plain, focus)
        from llmscope.draw import paint

        width, height = self.size
        stale = self._stale and self.dim
        painting = paint(
            plain.figure, width, height - len(text_rows), self._look, focus, stale=stale
        )
        return replace(painting, rows=(*painting.rows, *text_rows))

    def _cell_text_rows(self, figure: Figure) -> tuple[Row, ...]:
        """Return the text about the cell, as many lines as fit."""
        width, height = self.size
        spare = height - len(figure.axes[0]) - 1
        room = min(max(height // SHARE, spare), height - LEFT)
        if room < 1:
            return ()
        style_set = styles_for(self._look)
        facts = cell_facts(figure, self._look.ascii)
        first = wrap(cell_said(figure, self._look.ascii), width)
        rest = [f"{label:<8} {text}" if label else text for label, text in facts]
        if room < ROOMY:  # run the facts together; the status text names the number as well
            there = self._state.focus.cell is not None and len(first) == 1 and width >= SPACIOUS
            first, rest = [] if there else first, wrap("; ".join(rest), width)
        lines = [(line, style_set.accent) for line in first] + [
            (line, style_set.base) for line in rest
        ]
        return tuple(
            Line().add(fit(line, width), style).row(width, style_set.base)
            for line, style in lines[:room]
        )
