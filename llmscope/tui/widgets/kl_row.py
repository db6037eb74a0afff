"""The row below the prompt: how far the predictions of two models are apart after each token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from llmscope.draw.cells import Line, fit, plain_text, token_text
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import number
from llmscope.draw.painting import Row
from llmscope.draw.scale import Scale
from llmscope.draw.styles import Styles, styles_for
from llmscope.tui.theme.hosted_widget import HostedWidget

if TYPE_CHECKING:
    from llmscope.figure import Figure

HEAD = "KL "
LOWEST, HIGHEST = 1e-4, 1.0
"""The KL in nats of the lightest and of the strongest shade, which are the same for every prompt so
that a letter does not change the shades of the others."""
DIGITS = 6
"""Cells of a number."""
WORD = 10
"""Most cells of a token."""
DIFFERS = "≠"
"""The mark of a token after which the two likeliest tokens differ."""
WITH_EDITS = "not while edits are on: the unedited models are compared"
WAITS = "…"


class KlRow(HostedWidget):
    """One row: each token with the KL(A ‖ B) after it, shaded, around the token of the cursor."""

    def __init__(self) -> None:
        super().__init__(id="kl-row")
        self._figure: Figure | None = None
        self._focus, self._note = 0, ""
        self.display = False

    def show(self, figure: Figure | None, focus: int, *, note: str = "") -> None:
        """Show a figure of the lens `model-diff` in its mode `kl`.

        Args:
            figure: the figure; None before the first one.
            focus: the position of the cursor.
            note: what is shown instead of a figure; empty shows the figure.
        """
        if figure is not self._figure or (focus, note) != (self._focus, self._note):
            self._figure, self._focus, self._note = figure, focus, note
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the row."""
        width = self.size.width
        if y:
            return Strip([Segment(" " * width, self.rich_style)], width)
        styles = styles_for(self.look)
        figure = self._figure
        if self._note or figure is None or figure.verdict.status == "refused":
            text = self._note or (WAITS if figure is None else figure.verdict.reason)
            line = Line().add(HEAD, styles.dim)
            line.add(fit(plain_text(text, self.look.ascii), width - len(HEAD), "…"), styles.dim)
            return Strip(line.row(width, styles.base), width)
        return Strip(kl_row(figure, self._focus, width, styles), width)


def kl_row(figure: Figure, focus: int, width: int, styles: Styles) -> Row:
    """Return the row of a figure of `model-diff` in its mode `kl`, with the mean at its end."""
    ascii_, labels = styles.look.ascii, figure.axes[0].labels
    mark = plain_text(DIFFERS, ascii_)[:1]
    same = figure.extra["same_top"]
    tail = f" mean {number(float(figure.extra['mean']))} nats"
    room = width - len(HEAD) - len(tail)
    if room < WORD + DIGITS + 2:
        tail, room = "", width - len(HEAD)
    words = [token_text(label, ascii_) for label in labels]
    sizes = [min(cell_len(word), WORD) + DIGITS + 2 for word in words]
    window = fitting(sizes, focus, room)
    ramp = styles.sequential
    steps = Scale(math.log(LOWEST), math.log(HIGHEST), "linear").steps(
        np.log(np.maximum(figure.values, LOWEST)), len(ramp)
    )
    line = Line().add(HEAD, styles.dim)
    for at in window.indices():
        word = fit(words[at], sizes[at] - DIGITS - 2, styles.glyphs.ellipsis)
        step = int(steps[at])
        style = styles.accent if at == focus else styles.base
        line.add(word, style).add(mark if not same[at] else " ", styles.verdicts["partial"])
        value = fit(number(float(figure.values[at]), DIGITS), DIGITS, align="right")
        if ramp.coloured:
            line.add(value, ramp.styles[step])
        else:
            line.add(value, style)
        line.add(" ", styles.base)
    line.pad(width - len(tail), styles.base).add(tail, styles.dim)
    return line.row(width, styles.base)


def fitting(sizes: list[int], focus: int, room: int) -> Window:
    """Return the window of the tokens that fit, which holds the one of the focus.

    It ends at the last token where that fits, as while typing.

    Args:
        sizes: the cells of each token.
        focus: the token that is inside.
        room: the cells.
    """
    count = len(sizes)
    focus = max(0, min(focus, count - 1))
    stop, start = min(focus + 1, count), focus
    left = room - (sizes[focus] if count else 0)
    while start > 0 and sizes[start - 1] <= left:
        start -= 1
        left -= sizes[start]
    while stop < count and sizes[stop] <= left:
        left -= sizes[stop]
        stop += 1
    return Window(start, stop - start, count)
