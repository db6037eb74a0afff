"""The strip over the panes: one number of every token of the text, the window and the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from textual import events
from textual.message import Message
from textual.strip import Strip

from llmscope.draw.cells import Line, fit, plain_text
from llmscope.draw.numbers import number
from llmscope.draw.painters.strip import (
    add_ends,
    add_strip,
    add_track,
    strip_scale,
    tokens_per_cell,
)
from llmscope.draw.painting import Row
from llmscope.draw.styles import Styles, styles_for
from llmscope.tui.state.figure_store import TOKENS
from llmscope.tui.state.token_measures import TokenMeasure, measure_numbers, measure_want, upper_end
from llmscope.tui.theme.hosted_widget import HostedWidget

if TYPE_CHECKING:
    from llmscope.engine.events import Want
    from llmscope.figure import Figure
    from llmscope.tui.host import Host
    from llmscope.tui.state.view_state import ViewState

KEY = "overview-strip"
"""The key of its figure, where that is not the figure of the tokens."""
ROWS = 2
GUTTER = 25
"""Cells left of the strip: what it shows, the number at the cursor, and the ends of the ramp."""
LEAST = 20
"""Rows of a terminal that leave the panes enough beside it."""
LOWEST = 24
"""Rows of a terminal below which it does not show by itself."""
WAITS = "…"


def shows_strip(host: Host) -> bool:
    """Return whether the strip is shown: as the user chose, else for a text wider than the screen.

    It depends on the tokens and on the terminal alone, so that no request depends on painting.
    """
    width, height = host.size
    count, chosen = len(host.state.tokens), host.state.strip
    if host.mode.read_only or not count or height < LEAST:
        return False
    return (count > width and height >= LOWEST) if chosen is None else chosen


def strip_want(state: ViewState) -> Want:
    """Return the want for the figure of the strip, which may be that of the tokens."""
    want = measure_want(KEY, state)
    return TOKENS if want.lens == TOKENS.lens else want


class OverviewStrip(HostedWidget):
    """Two rows: blocks of tokens by their strongest number, and below them window and cursor."""

    class Pointed(Message):
        """Posted on a click, with the position of the token to go to."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    def __init__(self) -> None:
        super().__init__(id="overview-strip")
        self._figure: Figure | None = None
        self._measure: TokenMeasure | None = None
        self._special: tuple[bool, ...] = ()
        self._cursor = 0
        self._window: tuple[int, int] | None = None
        self._rows: tuple[Row, ...] = ()
        self._drawn: tuple[object, ...] = ()
        self.display = False

    def show(
        self,
        figure: Figure | None,
        measure: TokenMeasure,
        *,
        cursor: int,
        window: tuple[int, int] | None,
        special: tuple[bool, ...] = (),
    ) -> None:
        """Show a measure of each token.

        Args:
            figure: the figure that holds it; None before the first one.
            measure: the measure.
            cursor: the position of the cursor.
            window: the tokens that the main pane shows, as a half-open range; None: all.
            special: which tokens are special.
        """
        inputs = (measure, cursor, window)
        if figure is not self._figure or inputs != (self._measure, self._cursor, self._window):
            self._figure, self._special = figure, special
            self._measure, self._cursor, self._window = inputs
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return a row."""
        width = self.size.width
        drawn = (id(self._figure), self._measure, self._cursor, self._window)
        inputs = (*drawn, width, self.look)
        if inputs != self._drawn:
            self._rows, self._drawn = self._paint_strip(width), inputs
        if y < len(self._rows):
            return Strip(self._rows[y], width)
        return Strip(Line().row(width, self.rich_style), width)

    def _paint_strip(self, width: int) -> tuple[Row, ...]:
        if self._measure is None or not width:
            return ()
        return strip_rows(
            self._figure,
            self._measure,
            width,
            styles_for(self.look),
            cursor=self._cursor,
            window=self._window,
            special=self._special,
        )

    def on_click(self, event: events.Click) -> None:
        """Go to the strongest token of the block under the mouse."""
        offset = event.get_content_offset(self)
        position = None if offset is None else self.position_at(offset.x)
        if position is not None:
            self.post_message(self.Pointed(position))

    def position_at(self, column: int) -> int | None:
        """Return the strongest token of the cell in a column; None outside of the strip."""
        if self._figure is None or self._measure is None or column < GUTTER:
            return None
        values = measure_numbers(self._figure, self._measure)
        if values is None:
            return None
        per = tokens_per_cell(len(values), self.size.width - GUTTER, styles_for(self.look))
        start = (column - GUTTER) * per
        block = np.abs(values[start : start + per])
        if not len(block):
            return None
        return start + (0 if np.isnan(block).all() else int(np.nanargmax(block)))


def strip_rows(
    figure: Figure | None,
    measure: TokenMeasure,
    width: int,
    styles: Styles,
    *,
    cursor: int,
    window: tuple[int, int] | None,
    special: tuple[bool, ...] = (),
) -> tuple[Row, Row]:
    """Return the two rows of the strip; see `OverviewStrip.show`."""
    ascii_ = styles.look.ascii
    values = None if figure is None else measure_numbers(figure, measure)
    gutter = min(GUTTER, width)
    title = Line().add(f" {measure.title}", styles.accent)
    below = Line()
    if figure is None or values is None or not len(values):
        text = WAITS if figure is None else figure.verdict.reason or WAITS
        room = max(0, width - title.width - 2)
        title.add(f" {fit(plain_text(text, ascii_), room, styles.glyphs.ellipsis)}", styles.dim)
        return title.row(width, styles.base), below.row(width, styles.base)
    cells = max(1, width - gutter)
    per = tokens_per_cell(len(values), cells, styles)
    high = upper_end(values, special, measure.unit)
    scale = strip_scale(high, signed=bool((values < 0).any()))
    here = float(values[cursor]) if 0 <= cursor < len(values) else float("nan")
    if here == here:
        unit = "" if measure.unit == "probability" else f" {measure.unit}"
        title.add(fit(f"{number(here, 5)}{unit} ", gutter - title.width, align="right"), styles.dim)
    title.pad(gutter, styles.base)
    add_strip(title, values, cells, scale, styles, per_cell=per)
    below.add(" ", styles.base)
    add_ends(below, scale, styles, number(scale.low, 5), number(scale.high, 5))
    pooled = f" max of {per}" if per > 1 else ""
    if below.width + len(pooled) < gutter:
        below.add(pooled, styles.dim)
    below.pad(gutter, styles.base)
    add_track(below, len(values), cells, styles, per_cell=per, cursor=cursor, window=window)
    return title.row(width, styles.base), below.row(width, styles.base)
