"""Paint a table of runs: the top next token of each, and its distance from the first run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit, plain_text, token_text
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.numbers import number
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.text_table import TextTable
from llmscope.figure import Figure
from llmscope.support.numbers import percent

HEADS = ("run", "says", "KL, nats", "p", "max |Δlogit|")
GAP = 2
LEAST_NAME = 8


def page_runs(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return a row for each run: its next token, and its distance from the first run."""
    extra, table = figure.extra, TextTable()
    table.add("run", axis_labels(figure, 0, look.ascii))
    table.add("says", [token_text(str(token), look.ascii) for token in extra["says"]])
    chances = [percent(float(chance)) for chance in extra["says_probability"]]
    table.add("p", chances, numeric=True)
    table.add_values(figure, look)
    return table.to_page()


def paint_runs(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row per run; columns that do not fit are dropped, the rightmost first."""
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    ascii_ = style_set.look.ascii
    extra = figure.extra
    cells = [
        [
            plain_text(figure.axes[0].labels[row], ascii_),
            token_text(str(extra["says"][row]), ascii_),
            number(float(kl)) if row else style_set.glyphs.missing,
            percent(float(extra["says_probability"][row])),
            number(float(difference)) if row else style_set.glyphs.missing,
        ]
        for row, (kl, difference) in enumerate(figure.values)
    ]
    heads = [plain_text(head, ascii_) for head in HEADS]
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    count = len(widths)
    while count > 2 and sum(widths[:count]) + GAP * (count - 1) > width:
        count -= 1
    spare = sum(widths[:count]) + GAP * (count - 1) - width
    if spare > 0:
        widths[0] = max(LEAST_NAME, widths[0] - spare)
    rows: list[Row] = []
    for place, texts in enumerate((heads, *cells)):
        line = Line()
        for column, text in enumerate(texts[:count]):
            room = widths[column]
            cut = fit(text, min(room, max(cell_len(text), 1)), style_set.glyphs.ellipsis)
            pad = " " * (room - cell_len(cut))
            style = style_set.base if place else style_set.dim
            line.add(cut + pad if column < 2 else pad + cut, style)
            if column < count - 1:
                line.add(" " * GAP, style_set.base)
        rows.append(line.row(width, style_set.base))
    return Painting(finish(rows, width, height, style_set.base), None, {}, {})
