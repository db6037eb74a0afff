"""Paint the prompt's tokens as a table: position, token, id, surprisal, rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import column, number
from llmscope.draw.painters.plots import bar_texts
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.figure import Figure

WIDEST_TOKEN = 20
NARROWEST_BAR = 4
PLACES = 2


def paint_tokens(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row per token, windowed around the focus; surprisal as a number and as a bar.

    Columns that do not fit are left out, the least informative first: id, rank.
    """
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    labels = axis_labels(figure, 0, style_set.look.ascii)
    if not labels:
        return Painting(finish((), width, height, style_set.base))
    here = focus.position % len(labels)
    head = height >= 3
    window = Window.around(here, len(labels), height - head)
    inside = slice(window.start, window.stop)
    missing = style_set.glyphs.missing
    ids = _whole(figure.extra.get("ids"), len(labels), missing)
    ranks = _whole(figure.extra.get("ranks"), len(labels), missing)
    bits = column(figure.values, 6, missing, PLACES)
    place = len(str(len(labels) - 1))
    named = min(max(5, *(cell_len(label) for label in labels)), WIDEST_TOKEN, max(5, width // 3))
    columns: list[tuple[str, list[str], bool]] = [
        ("surprisal", bits, True),
        ("rank", ranks, figure.extra.get("ranks") is not None),
        ("id", ids, figure.extra.get("ids") is not None),
    ]
    used = place + named + 3
    fitting: list[tuple[str, list[str], int]] = []
    for title, texts, known in columns:
        wide = max(len(title), max(len(text) for text in texts))
        if known and used + wide + 1 <= width:
            fitting.append((title, texts, wide))
            used += wide + 1
    fitting.sort(key=lambda item: ("id", "surprisal", "rank").index(item[0]))
    room = min(width - used - 1, 24)
    finite = figure.values[np.isfinite(figure.values)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    bars = [""] * window.size
    if room >= NARROWEST_BAR:
        bars = bar_texts((figure.values[inside].astype(np.float64) / top).tolist(), room, style_set)
    rows: list[Row] = []
    if head:
        line = Line().add(f" {'#':>{place}} {fit('token', named)}", style_set.dim)
        for title, _, wide in fitting:
            line.add(f" {title:>{wide}}", style_set.dim)
        end = f"{number(top)} {plain_text(figure.unit, style_set.look.ascii)}"
        if room >= max(NARROWEST_BAR, cell_len(end)):
            line.add(" " + fit(end, room, align="right"), style_set.dim)
        rows.append(line.row(width, style_set.base))
    down: dict[int, tuple[str, int]] = {}
    special = list(figure.extra.get("special", ())) or [False] * len(labels)
    for offset, index in enumerate(window.indices()):
        focused = index == here
        style = style_set.accent if focused else style_set.dim if special[index] else style_set.base
        mark = style_set.glyphs.mark if focused else " "
        line = Line().add(
            f"{mark}{index:>{place}} ", style_set.accent if focused else style_set.dim
        )
        line.add(fit(labels[index], named, style_set.glyphs.ellipsis), style)
        for title, texts, wide in fitting:
            quiet = style_set.base if title == "surprisal" else style_set.dim
            line.add(f" {texts[index]:>{wide}}", style_set.accent if focused else quiet)
        line.add(" ", style_set.base).add(bars[offset], style_set.bar)
        down[len(rows)] = (figure.axes[0].name, index)
        rows.append(line.row(width, style_set.base))
    return Painting(finish(rows, width, height, style_set.base), None, {}, down)


def _whole(values: Sequence[Any] | None, count: int, missing: str) -> list[str]:
    """Format whole numbers; `missing` for the others (the first token has no rank)."""
    if values is None:
        return [missing] * count
    known = [float(value) if value is not None else float("nan") for value in values]
    return [f"{int(value)}" if math.isfinite(value) and value >= 0 else missing for value in known]
