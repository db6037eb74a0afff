"""Paint the map: layers from top to bottom, tokens from left to right, and the cursor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmscope.draw.cells import plain_text, token_text
from llmscope.draw.grid.grid import Foot, Grid, paint_grid
from llmscope.draw.grid.labels import prompt_texts
from llmscope.draw.grid.layout import NARROWEST_TEXT
from llmscope.draw.numbers import number
from llmscope.draw.painting import Canvas, Painting
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import in_decades, is_difference, ranks_of
from llmscope.figure import Axis, Figure
from llmscope.figure.cursor import layer_row

KINDS = {
    "attention": "A",
    "state space": "M",
    "convolution": "C",
    "recurrent": "R",
    "feed-forward": "F",
    "unknown": "?",
}
"""The letter for each kind of layer; M as in Mamba."""
LENS_MARKS = {
    "unmapped": ("*", "* logit lens"),
    "doubtful": ("!", "! doubtful"),
}
"""By the name in `extra`: the mark of a row of a learned lens, and its legend."""


RANKS = "cells: rank"
"""What the legend says of a map whose cells have the rank of a token."""


@dataclass(frozen=True)
class MapTexts:
    """The texts of a map.

    Attributes:
        rows: the labels of the rows, with the letters of kinds and the marks of a learned lens.
        cell: returns the word of a cell by row and column; None if the figure has no words.
        note: what the letters and marks mean; may be empty.
    """

    rows: list[str]
    cell: Callable[[int, int], str] | None
    note: str


def map_texts(figure: Figure, ascii: bool) -> MapTexts:  # noqa: A002
    """Return the texts of a map, whose first axis are layers."""
    ids, words = figure.extra.get("ids"), figure.extra.get("names")
    cells: Sequence[Sequence[str]] = figure.extra.get("cell_marks", ())

    ranks = ranks_of(figure)

    def text(row: int, column: int) -> str:
        if ranks is not None:  # the tokens on top are not what the colours are about
            return rank_text(float(ranks[row, column]))
        label = words.get(int(ids[row][column]), "") if words and ids is not None else ""
        sign = LENS_MARKS[cells[row][column]][0] if cells and cells[row][column] else ""
        return token_text(str(label), ascii) + sign

    kinds: Sequence[str] = figure.extra.get("kinds", ())
    marks = {
        row: sign for name, (sign, _) in LENS_MARKS.items() for row in figure.extra.get(name, ())
    }
    there = {*marks.values(), *(LENS_MARKS[mark][0] for row in cells for mark in row if mark)}
    legend = [meaning for sign, meaning in LENS_MARKS.values() if sign in there]
    return MapTexts(
        [
            plain_text(label, ascii) + kind_letter(label, kinds) + marks.get(row, "")
            for row, label in enumerate(figure.axes[0].labels)
        ],
        text if words or ranks is not None else None,
        ", ".join(filter(None, (kind_note(kinds), RANKS if ranks is not None else "", *legend))),
    )


def page_layers(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return the labels of the layers, the words of the cells and a note, for the html page."""
    texts = map_texts(figure, look.ascii)
    record: dict[str, Any] = {"rows": texts.rows, "legend": texts.note}
    if texts.cell is not None:
        words: dict[str, int] = {}
        rows, columns = map(range, figure.values.shape)
        cells = (texts.cell(row, column) for row in rows for column in columns)
        places = [words.setdefault(word, len(words)) for word in cells]
        record["words"] = {"list": list(words), "places": places}
    return record


def paint_map(figure: Figure, canvas: Canvas) -> Painting:
    """Paint a figure with the axes layer and position, with a token row above and surprisal below.

    Args:
        figure: wide cells show `extra["names"]` of the token ids in `extra["ids"]`, by layer and
            column; `extra["kinds"]`, one per numbered layer, is a letter beside its number; the
            rows `extra["unmapped"]` and `extra["doubtful"]` of a learned lens are marked.
        canvas: where to paint. Without `tokens` the surprisal row is left out.
    """
    style_set, focus, tokens = canvas.styles, canvas.focus, canvas.tokens
    ascii_ = style_set.look.ascii
    layers, positions = figure.axes
    foot, special = None, figure.extra.get("special", ())
    if tokens is not None and (span := _span_of(positions, tokens)) is not None:
        special = tokens.extra.get("special", special)[span]
        foot = Foot("surprisal", tokens.values[span], plain_text(tokens.unit, ascii_))
    token_texts = prompt_texts(positions.labels, special, ascii_)
    texts = map_texts(figure, ascii_)
    grid = Grid(
        figure.values,
        texts.rows,
        token_texts,
        (layers.name, positions.name),
        layer_row(layers.labels, focus.layer),
        positions.index(focus.position) if positions.name == "position" else None,
        unit=figure.unit,
        signed=is_difference(figure),
        decades=in_decades(figure),
        corner=layers.name,
        texts=texts.cell,
        foot=foot,
        cell=canvas.zoom,
        narrowest=NARROWEST_TEXT if texts.cell else 1,
        note=texts.note,
    )
    painting = paint_grid(grid, canvas.width, canvas.height, style_set)
    return painting.placed(layers, positions)


def rank_text(rank: float) -> str:
    """Return a rank in at most five cells: `1`, `734`, `12.3k`; empty where it is not known."""
    if math.isnan(rank):
        return ""
    return f"{rank:.0f}" if rank < 10_000 else number(rank, 5)


def kind_letter(label: str, kinds: Sequence[str]) -> str:
    """Return the suffix of a layer's label: a blank and the letter of its kind, if kinds differ."""
    if not kinds:
        return ""
    return f" {KINDS.get(kinds[int(label)], '?')}" if label.isdecimal() else "  "


def kind_note(kinds: Sequence[str]) -> str:
    """Return the legend of the letters in use."""
    return ", ".join(f"{letter} {kind}" for kind, letter in KINDS.items() if kind in kinds)


def _span_of(positions: Axis, tokens: Figure) -> slice | None:
    """Return which tokens the columns of a map are; None if they are of another prompt."""
    (all_tokens,) = tokens.axes
    if len(positions) == len(all_tokens):
        return slice(None)
    span = slice(positions.start, positions.stop)
    same = positions.step == 1 and all_tokens.labels[span] == positions.labels
    return span if same else None
