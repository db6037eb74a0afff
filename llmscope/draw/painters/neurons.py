"""Paint the strongest neurons of a layer: activation at the focus and along the prompt."""

from __future__ import annotations

import numpy as np
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.grid.window import Window, edge_row
from llmscope.draw.numbers import column, number
from llmscope.draw.painters.plots import signed_bar_texts
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.scale import BORDER, SHORTEST, Scale, legend
from llmscope.draw.styles import Styles
from llmscope.figure import Figure

NARROWEST_BAR = 4
WIDEST_BAR = 14
NARROWEST_STRIP = 8
OVER_TOKENS = "by token"
SLOTS = 9
"""Width of a number in cells, including its sign."""


def paint_neurons(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row per neuron: index, activation at the focus, bar, and a strip over the prompt.

    The figure has the axes position and neuron. The strip's colours follow the legend; the bars
    are linear, and the longest one is the largest magnitude on the token.
    """
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    positions = axis_labels(figure, 0, style_set.look.ascii)
    neurons = axis_labels(figure, 1, style_set.look.ascii)
    if not positions or not neurons:
        return Painting(finish((), width, height, style_set.base))
    here = focus.position % len(positions)
    head = height >= 3
    named = max(cell_len(name) for name in neurons)
    rest = width - named - SLOTS - 3
    bar = max(0, rest)
    if rest > NARROWEST_BAR + NARROWEST_STRIP:
        # The strip gets the width that the prompt needs, the bar the rest.
        bar = min(max(rest - 1 - len(positions), rest // 4, NARROWEST_BAR), WIDEST_BAR)
    bar = bar if bar >= NARROWEST_BAR else 0
    strip = max(0, rest - bar - 1)
    strip = strip if strip >= NARROWEST_STRIP else 0
    cell = 2 if strip >= 2 * len(positions) else 1
    window = Window.around(here, len(positions), strip // cell)
    start = named + SLOTS + 3 + bar + 1
    bottom = window.partial and strip > 0 and height >= 6
    scale = Scale.of_figure(figure)
    ramp = scale.ramp(style_set)
    steps = scale.steps(figure.values, len(ramp))
    count = min(len(neurons), max(1, height - head - bottom))
    values = figure.values[here, :count]
    # A full bar is the largest value here: the strip beside shows how it compares along the prompt.
    largest = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    shares = (values.astype(np.float64) / largest).tolist()
    bars = signed_bar_texts(shares, bar, style_set) if bar else [""] * count
    chosen = str(focus.neuron)
    numbers = column(values, SLOTS - 1, style_set.glyphs.missing)
    rows: list[Row] = (
        [_head(positions, here, window, cell, start, width, style_set)] if head else []
    )
    down: dict[int, tuple[str, int]] = {}
    for index in range(count):
        name = fit(neurons[index], named, style_set.glyphs.ellipsis, "right")
        here_now = figure.axes[1].labels[index] == chosen
        line = (
            Line()
            .add(style_set.glyphs.mark if here_now else " ", style_set.accent)
            .add(f"{name} ", style_set.accent if here_now else style_set.dim)
            .add(f"{numbers[index]:>{SLOTS}} ", style_set.base)
        )
        signed = scale.kind == "signed"
        line.add(bars[index], style_set.bar_of(values[index], signed=signed))
        if strip:
            line.pad(start, style_set.base)
            for place in window.indices():
                step = int(steps[place, index])
                glyph = ramp.glyphs[step]
                if place == here and not head and ramp.coloured:
                    glyph = style_set.glyphs.cursor
                line.add(glyph + (" " if ramp.coloured else glyph) * (cell - 1), ramp.styles[step])
        down[len(rows)] = (figure.axes[1].name, index)
        rows.append(line.row(width, style_set.base))
    if bottom:
        rows.append(edge_row(window, here, start, width, style_set))
    across = {
        start + offset * cell + inner: (figure.axes[0].name, place)
        for offset, place in enumerate(window.indices())
        for inner in range(cell)
    }
    return Painting(
        finish(rows, width, height, style_set.base),
        legend(scale, _unit(figure.unit, scale, width if strip else 0), style_set, width),
        across,
        down,
    )


def _unit(unit: str, scale: Scale, room: int) -> str:
    """Return the unit of the strip, which says where there is room that it goes over all tokens.

    The numbers beside the bars are those of one token, and may be much smaller.
    """
    name = f"{unit} {OVER_TOKENS}"
    ends = len(number(scale.low)) + len(number(scale.high))
    return name if cell_len(name) + ends + 3 + SHORTEST + BORDER <= room else unit


def _head(
    positions: list[str],
    here: int,
    window: Window,
    cell: int,
    start: int,
    width: int,
    style_set: Styles,
) -> Row:
    """Draw the header, with the token whose activations the numbers show."""
    glyphs = style_set.glyphs
    name = f"{glyphs.down}{positions[here]}"
    line = Line().add(" neuron", style_set.dim)
    place = start + (here - window.start) * cell
    if not window.size or place >= width:
        room = max(1, width - line.width - 4)
        return (
            line.add(" at ", style_set.dim)
            .add(fit(name[1:], room, glyphs.ellipsis), style_set.accent)
            .row(width, style_set.base)
        )
    length = min(cell_len(name), width - start)
    flipped = place + length > width
    if flipped:
        # Put the name before its mark if it does not fit after it.
        name = fit(positions[here], length - 1, glyphs.ellipsis, "right") + glyphs.down
        place = place + 1 - length
    line.pad(place, style_set.base)
    return line.add(fit(name, length, glyphs.ellipsis), style_set.accent).row(width, style_set.base)
