"""Paint the walkthrough of a forward pass: one row per step, with a summary and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit, token_text
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import own_text
from llmscope.draw.text_table import TextTable
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text

CELL = 7
"""Width of a number in cells, including the blank before it."""
WORDS = (31, 14)
"""Maximum and minimum width of a step's summary in cells; below the minimum it is left out."""
LEAST_NUMBERS = 2
"""Minimum number of numbers beside the summary; more are shown if the summary has its width."""


def paint_walk(figure: Figure, canvas: Canvas) -> Painting:
    """Paint a figure with the axes step and statistic.

    To fit the width, drop numbers from the right down to two, then the summary, then those two.
    Where the numbers of a step stand for tokens, show their texts instead of the statistics.
    """
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    ascii_, steps = style_set.look.ascii, figure.extra["steps"]
    names = [own_text(name, ascii_) for name in figure.axes[0].labels]
    shapes = [own_text(" × ".join(map(str, step["shape"])), ascii_) for step in steps]
    count = len(names)
    digits = len(str(count - 1)) + 1
    named, shaped = max(map(cell_len, names)), max(map(cell_len, shapes))
    left = digits + 1 + named + 2 + shaped
    gist = min(WORDS[0], max(cell_len(own_text(step["gist"], ascii_)) for step in steps))
    room = max(0, width - left)
    numbers = min(len(figure.axes[1]), max(LEAST_NUMBERS, (room - gist - 2) // CELL))
    words = min(gist, room - numbers * CELL - 2)
    if words < min(gist, WORDS[1]):
        numbers, words = min(len(figure.axes[1]), room // CELL), 0
    head = height > 1
    window = Window.around(focus.step or 0, count, height - head)
    texts_of_step = [
        [token_text(text, ascii_) for text in texts] for texts in (step["told"] for step in steps)
    ]
    cells = [
        column(figure.values[:, at], CELL - 1, style_set.glyphs.missing) for at in range(numbers)
    ]
    rows: list[Row] = []
    if head:
        line = Line().add(fit("", digits + 1) + fit("step", named), style_set.dim)
        line.add(f"  {fit('what it does', words)}" if words else "", style_set.dim)
        line.add(f"  {fit('shape', shaped)}", style_set.dim)
        for label in figure.axes[1].labels[:numbers]:
            line.add(f"{label:>{CELL}}", style_set.dim)
        rows.append(line.row(width, style_set.base))
    for index in window.indices():
        here = index == focus.step
        refused = bool(steps[index]["reason"])
        style = style_set.accent if here else style_set.dim if refused else style_set.base
        mark = style_set.glyphs.mark if here else style_set.glyphs.cut if refused else " "
        line = Line().add(f"{mark}{index:>{digits - 1}} ", style)
        line.add(fit(names[index], named, style_set.glyphs.ellipsis), style)
        if words:
            does = own_text(steps[index]["gist"], ascii_)
            line.add(f"  {fit(does, words, style_set.glyphs.ellipsis)}", style_set.dim)
        line.add(f"  {fit(shapes[index], shaped)}", style_set.dim)
        _numbers(line, texts_of_step[index], [cell[index] for cell in cells], style, style_set)
        rows.append(line.row(width, style_set.base))
    down = {row + head: (figure.axes[0].name, at) for row, at in enumerate(window.indices())}
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def describe_step(figure: Figure, focus: Focus) -> Iterator[str]:
    """Yield the selected step, if it is of the layer of the focus."""
    if figure.extra["layer"] == focus.layer:
        steps = figure.extra["steps"]
        index = min(focus.step or 0, len(steps) - 1)
        name, gist = (display_text(steps[index][part]) for part in ("name", "gist"))
        yield f"step {index}, {name}, {gist}"


def page_walk(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return a row for each step, for the html page."""
    steps, ascii_, table = figure.extra["steps"], look.ascii, TextTable()
    table.add("#", list(map(str, range(len(steps)))), numeric=True)
    table.add("step", [own_text(name, ascii_) for name in figure.axes[0].labels])
    table.add("what it does", [own_text(str(step["gist"]), ascii_) for step in steps])
    shapes = [" × ".join(map(str, step["shape"])) for step in steps]
    table.add("shape", [own_text(shape, ascii_) for shape in shapes])
    tokens = [" ".join(token_text(str(text), ascii_) for text in step["told"]) for step in steps]
    if any(tokens):
        table.add("tokens", tokens)
    table.add_values(figure, look)
    table.more = [
        own_text(" · ".join(filter(None, map(str, (step["sentence"], step["reason"])))), ascii_)
        for step in steps
    ]
    return table.to_page()


def _numbers(
    line: Line, texts: Sequence[str], cells: Sequence[str], style: Style, style_set: Styles
) -> None:
    """Add the statistics of a step, or as many of its tokens as fit in their place."""
    if not texts:
        for cell in cells:
            # A number that rounds to zero is shown without a sign.
            line.add(f" {cell.replace('-0.000', ' 0.000')}", style)
        return
    room = len(cells) * CELL - 1
    text = " ".join(texts)
    if cell_len(text) > room:  # keep the end of the prompt
        count = len(texts)
        while count > 1 and cell_len(" ".join(texts[-count:])) + 2 > room:
            count -= 1
        text = f"{style_set.glyphs.ellipsis} {' '.join(texts[-count:])}"
    if room > 0:
        line.add(f" {fit(text, room, style_set.glyphs.ellipsis)}", style_set.accent)
