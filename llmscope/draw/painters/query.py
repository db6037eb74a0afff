"""Paint the attention of one query over all keys: a strip for each head, and the strongest keys."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from llmscope.draw.cells import Line, finish, fit, plain_text
from llmscope.draw.grid.labels import axis_labels
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import number, signed_share
from llmscope.draw.painters.strip import (
    add_ends,
    add_strip,
    add_track,
    strip_scale,
    tokens_per_cell,
)
from llmscope.draw.painting import Box, Canvas, Painting, Row
from llmscope.draw.scale import Scale, is_difference, legend
from llmscope.draw.styles import Styles
from llmscope.figure import Figure, Focus

GUTTER = 6
"""Cells of the name of a strip, with its mark and a blank."""
LISTED = 8
"""The most keys that are listed for a strip."""
FEWEST = 3
"""Rows for the list that the strips leave, where there is room for as many strips."""
MEAN = "mean"
CONTEXT = 3
"""Tokens before and after a listed key."""


def is_one_query(figure: Figure, focus: Focus) -> bool:
    """Return whether a figure is the attention of all heads at one query. [head, query, key]"""
    names = tuple(axis.name for axis in figure.axes)
    return names == ("head", "query", "key") and len(figure.axes[1]) == 1


def paint_query(figure: Figure, canvas: Canvas) -> Painting:
    """Paint the mean over the heads, each head, where the query is, and what they look at most.

    Each cell of a strip is the maximum of its tokens. The ramp ends at the largest share of a token
    that is neither the first nor a special one: heads rest on those when they have nothing to say.
    """
    width, height, style_set, focus = canvas.width, canvas.height, canvas.styles, canvas.focus
    heads, _, keys = figure.axes
    values = figure.values[:, 0]  # [head, key]
    labels = axis_labels(figure, 2, style_set.look.ascii)
    gutter = min(GUTTER, max(0, width - 1))
    cells = max(1, width - gutter - 1)
    seen = min(figure.axes[1].start + 1, keys.stop) - keys.start
    count = max(1, -(-seen // keys.step))
    per = tokens_per_cell(count, cells, style_set)
    with np.errstate(invalid="ignore"):
        mean = np.asarray(values.mean(0), dtype=np.float32)
    rest = _without_sinks(values[:, :count], figure.extra.get("special", ()))
    scale = strip_scale(
        float(np.nanmax(np.abs(rest))) if np.isfinite(rest).any() else 0.0,
        signed=is_difference(figure),
    )
    room = max(0, height - 2 - FEWEST)  # beside the mean, the track and the list
    at = focus.head % max(len(heads), 1)
    window = Window.around(at, len(heads), min(len(heads), room))
    rows: list[Row] = []
    down: dict[int, tuple[str, int]] = {}

    def strip(name: str, numbers: NDArray[np.float32], focused: bool) -> None:
        line = Line()
        mark = style_set.glyphs.mark if focused else " "
        style = style_set.accent if focused else style_set.dim
        line.add(fit(f"{mark}{fit(name, max(0, gutter - 2), align='right')} ", gutter), style)
        add_strip(line, numbers[:count], cells, scale, style_set, per_cell=per)
        rows.append(line.row(width, style_set.base))

    strip(MEAN, mean, False)
    for head in window.indices():
        down[len(rows)] = ("head", head)
        strip(heads.labels[head], values[head], head == at)
    track = Line().pad(gutter, style_set.base)
    here = max(0, count - 1)
    add_track(track, count, cells, style_set, per_cell=per, cursor=here, window=None)
    rows.append(track.row(width, style_set.base))
    listed, boxes = _lists(
        [(MEAN, mean), (f"head {heads.labels[at]}", values[at])],
        *(labels, (keys.start, keys.step), width, height - len(rows), style_set),
    )
    boxes = tuple(
        (across, range(below.start + len(rows), below.stop + len(rows)), name, place)
        for across, below, name, place in boxes
    )
    across = {
        gutter + cell: ("position", keys.start + keys.step * min(cell * per, count - 1))
        for cell in range(min(cells, -(-count // per)))
    }
    return Painting(
        finish([*rows, *listed], width, height, style_set.base),
        _legend(scale, plain_text(figure.unit, style_set.look.ascii), style_set, width),
        across,
        down,
        boxes,
        remark=f"max of {per} tokens" if per > 1 else "",
    )


def _legend(scale: Scale, unit: str, style_set: Styles, width: int) -> Row:
    """Return the ramp between its ends; without colours, in the characters of the strips."""
    if scale.ramp(style_set).coloured:
        return legend(scale, unit, style_set, width)
    line = Line().add(f"{unit} " if unit else "", style_set.dim)
    add_ends(line, scale, style_set, number(scale.low), number(scale.high))
    return line.row(min(line.width, width), style_set.base)


def _without_sinks(values: NDArray[np.float32], special: Sequence[bool]) -> NDArray[np.float32]:
    """Return the shares of the keys where heads do not rest; all of them if no others are there."""
    resting = np.zeros(values.shape[1], dtype=bool)
    resting[: len(special)] = special[: values.shape[1]]
    resting[:1] = True
    return values if resting.all() else values[:, ~resting]


def _lists(
    named: Sequence[tuple[str, NDArray[np.float32]]],
    labels: Sequence[str],
    axis: tuple[int, int],
    width: int,
    height: int,
    style_set: Styles,
) -> tuple[list[Row], tuple[Box, ...]]:
    """Return the strongest keys of several strips beside one another, and where they stand."""
    start, step = axis
    if height < 2:
        return [], ()
    wide = width // len(named) if width >= 60 else width
    named = named if width >= 60 else named[-1:]
    lines = [Line() for _ in range(min(height, LISTED + 1))]
    boxes: list[Box] = []
    for column, (name, numbers) in enumerate(named):
        left = column * wide
        for line in lines:
            line.pad(left, style_set.base)
        lines[0].add(fit(f" {name} looks most at", wide - 1), style_set.dim)
        known = np.flatnonzero(np.isfinite(numbers))
        order = known[np.argsort(-np.abs(numbers[known]), kind="stable")][: len(lines) - 1]
        place = len(f"{int(max(order, default=0)) * step + start:,}")
        for row, key in enumerate(order.tolist(), 1):
            position = start + key * step
            line = lines[row]
            line.add(f" {signed_share(float(numbers[key])):>4} ", style_set.base)
            line.add(f"{position:>{place},} ", style_set.dim)
            room = left + wide - 1 - line.width
            _add_context(line, labels, key, room, style_set)
            boxes.append((range(left, left + wide), range(row, row + 1), "position", position))
    return [line.row(width, style_set.base) for line in lines], tuple(boxes)


def _add_context(line: Line, labels: Sequence[str], key: int, room: int, style_set: Styles) -> None:
    """Append a token, with those around it as far as there is room."""
    word = fit(labels[key], min(cell_len(labels[key]), max(1, room)), style_set.glyphs.ellipsis)
    room -= cell_len(word)
    before, after = "", ""
    for distance in range(1, CONTEXT + 1):
        for side in (-1, 1):
            at = key + side * distance
            if not 0 <= at < len(labels) or cell_len(labels[at]) > room:
                continue
            room -= cell_len(labels[at])
            before, after = (
                (labels[at] + before, after) if side < 0 else (before, after + labels[at])
            )
    line.add(before, style_set.dim).add(word, style_set.accent).add(after, style_set.dim)
