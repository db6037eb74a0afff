"""Paint rows of text with several numbers each: sentences, passages, forks and branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column
from llmscope.draw.painters.plots import signed_bar_texts
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import largest_magnitude
from llmscope.draw.styles import Styles, styles_for
from llmscope.draw.symbols import own_text, quoting_text
from llmscope.draw.text_table import WIDTH, TextTable, page_table
from llmscope.figure import Figure
from llmscope.support.numbers import percent

NUMBER = 7
"""Cells of a number."""
LEAST_TEXT, TEXT = 16, 70
"""The least cells of the text, and its share in percent of what the numbers leave, before bars."""
LEAST_BAR, MOST_BAR = 4, 12
"""Cells of a bar."""


def paint_columns(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row for each label: its number, the columns of `extra`, and its text.

    Each column has the numbers of `extra["cells"]` [column, row] under a name of `extra["heads"]`,
    with bars where there is room, each on a scale of its own; the last ones give way to the text.
    `extra["units"]` may say that a column is a probability. `extra["texts"]` are the texts; the
    labels where it is missing. The row `extra["chosen"]` is marked, and the window is around
    `extra["here"]`, or else that row.
    """
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    extra, ascii_ = figure.extra, style_set.look.ascii
    count = len(figure.axes[0])
    cells = [
        np.asarray(cells_of_column, dtype=np.float64)
        for cells_of_column in extra.get("cells", (figure.values,))
    ]
    heads = [own_text(str(head), ascii_) for head in extra.get("heads", (figure.unit,))]
    units = list(extra.get("units", ())) or [figure.unit] * len(cells)
    texts = [str(text) for text in extra.get("texts", figure.axes[0].labels)]
    chosen, here = extra.get("chosen"), extra.get("here")
    window = Window.around(here if here is not None else chosen or 0, count, max(1, height - 1))
    inside = slice(window.start, window.stop)
    first = len(str(count)) + 2
    numbers = [
        _numbers(cells_of_column, unit, style_set)
        for cells_of_column, unit in zip(cells, units, strict=True)
    ]
    wide = [
        max(NUMBER, cell_len(head)) if width > 40 else max(6, max(map(cell_len, texts_), default=0))
        for head, texts_ in zip(heads, numbers, strict=True)
    ]
    fitting = len(wide)
    while fitting > 1 and width - first - sum(wide[:fitting]) - fitting < LEAST_TEXT:
        fitting -= 1  # the text says what a row is: the last columns make room for it
    heads, wide, cells = heads[:fitting], wide[:fitting], cells[:fitting]
    numbers, units = numbers[:fitting], units[:fitting]
    rest = width - first - sum(wide) - len(wide)
    text_width = min(max(map(len, texts), default=0), max(LEAST_TEXT, rest * TEXT // 100))
    bar = min(MOST_BAR, max(0, rest - text_width) // max(len(cells), 1) - 1)
    bars = [
        signed_bar_texts(_shares(cells_of_column, unit)[inside], bar, style_set)
        if bar >= LEAST_BAR
        else None
        for cells_of_column, unit in zip(cells, units, strict=True)
    ]
    line = Line().add(" " * first, style_set.dim)
    for at, head in enumerate(heads):
        line.add(fit(head, wide[at], align="right"), style_set.dim)
        line.add(" " * ((bar + 2) if bars[at] else 1), style_set.dim)
    rows: list[Row] = [line.row(width, style_set.base)]
    for row, place in enumerate(window.indices()):
        marked = place in (chosen, here)
        style = style_set.accent if marked else style_set.base
        mark = style_set.glyphs.mark if place == chosen else " "
        line = Line().add(f"{mark}{place + 1:>{first - 2}} ", style)
        for at, texts_of_column in enumerate(numbers):
            line.add(fit(texts_of_column[place], wide[at], align="right"), style)
            drawn = bars[at]
            if drawn is not None:
                value = cells[at][place]
                colour = style_set.bar_of(value, signed=bool((cells[at] < 0).any()))
                line.add(" ", style_set.base).add(drawn[row], colour, bar)
            line.add(" ", style_set.base)
        room = width - line.width
        if room > 1:
            quoted = quoting_text(" ".join(texts[place].split()), ascii_)
            line.add(fit(quoted, room, style_set.glyphs.ellipsis), style)
        rows.append(line.row(width, style_set.base))
    down = {row + 1: (figure.axes[0].name, place) for row, place in enumerate(window.indices())}
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def page_columns(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return the columns of `extra["cells"]` and the texts, for the html page."""
    extra, ascii_ = figure.extra, look.ascii
    if "cells" not in extra:
        return page_table(figure, look)
    table, values_shown = TextTable(), False
    cells = [np.asarray(numbers, dtype=np.float64) for numbers in extra["cells"]]
    units = list(extra.get("units", ())) or [figure.unit] * len(cells)
    table.add("#", [str(row + 1) for row in range(len(figure.axes[0]))], numeric=True)
    for head, numbers, unit in zip(extra["heads"], cells, units, strict=True):
        same = np.array_equal(numbers.astype(np.float32), figure.values, equal_nan=True)
        texts = _numbers(numbers, str(unit), styles_for(look), WIDTH)
        value = 0 if same and not values_shown else None
        values_shown = values_shown or same
        table.add(own_text(str(head), ascii_), texts, numeric=True, value=value)
    if not values_shown:
        table.add_values(figure, look)
    texts = [str(text) for text in extra.get("texts", figure.axes[0].labels)]
    quoted = [quoting_text(" ".join(text.split()), ascii_) for text in texts]
    table.add(plain_text(figure.axes[0].name, ascii_), quoted)
    return table.to_page()


def _numbers(
    values: NDArray[np.float64], unit: str, style_set: Styles, width: int = NUMBER
) -> list[str]:
    missing = style_set.glyphs.missing
    if unit == "probability":
        return [percent(value) if np.isfinite(value) else missing for value in values.tolist()]
    return [text.strip() for text in column(values.astype(np.float32), width, missing)]


def _shares(values: NDArray[np.float64], unit: str) -> Sequence[float]:
    top = 1.0 if unit == "probability" else largest_magnitude(values)
    shares: list[float] = (values / top).tolist()
    return shares
