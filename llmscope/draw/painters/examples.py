"""Paint examples of a unit: a row an example, its tokens coloured by activation, in one column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, fit, plain_text, token_text
from llmscope.draw.numbers import column
from llmscope.draw.painters.generic import paint_table
from llmscope.draw.painting import Canvas, Painting, Row
from llmscope.draw.render_options import RenderOptions
from llmscope.draw.scale import BORDER, Scale, legend
from llmscope.draw.styles import Styles
from llmscope.draw.symbols import own_text
from llmscope.draw.text_table import page_table
from llmscope.figure import Figure

NUMBER, PART = 8, 7
"""Cells of an activation, and of the kind of an example where there is room for it."""
BEFORE = 0.6
"""The share of the text's room that is before the token of an example."""
LEAST_TEXT = 24
"""The least cells of the text, below which the kind of an example is left out."""

ExampleWindow = tuple[list[str], list[float], int]
"""The tokens of a window, their activations, and the place of the one that it is about."""


def paint_examples(figure: Figure, canvas: Canvas) -> Painting:
    """Paint one row an example: its kind, its activation, and its tokens, its own in ‹›."""
    windows = example_windows(figure)
    if windows is None:
        return paint_table(figure, canvas)
    width, height, style_set = canvas.width, canvas.height, canvas.styles
    scale = _scale_of(windows, figure.unit)
    ramp = scale.ramp(style_set)
    numbers = column(figure.values, NUMBER - 1, style_set.glyphs.missing)
    named = PART if width - NUMBER - PART >= LEAST_TEXT else 0
    room = width - NUMBER - named
    middle = named + NUMBER + int(BEFORE * room)
    parts = [str(part) for part in figure.extra.get("part", ())] or [""] * len(windows)
    rows: list[Row] = []
    for index in range(min(height, len(windows))):
        tokens, values, peak = windows[index]
        steps = scale.steps(np.array(values, dtype=np.float32), len(ramp))
        styles = [
            ramp.styles[step] if value and ramp.coloured else style_set.base
            for step, value in zip(steps.tolist(), values, strict=True)
        ]
        first = not index or parts[index] != parts[index - 1]
        line = Line()
        if named:
            kind = parts[index] if first else ""
            line.add(fit(kind, named), style_set.dim)
        line.add(f"{numbers[index]:>{NUMBER - 1}} ", style_set.dim)
        texts = [_text(token, style_set) for token in tokens]
        before = _last_that_fit(texts[:peak], styles[:peak], middle - line.width)
        line.pad(middle - sum(cell_len(text) for text, _ in before), style_set.base)
        for text, style in before:
            line.add(text, style)
        left, right = (own_text(mark, style_set.look.ascii) for mark in "‹›")
        line.add(left, style_set.accent)
        line.add(token_text(tokens[peak], style_set.look.ascii), styles[peak])
        line.add(right, style_set.accent)
        for text, style in zip(texts[peak + 1 :], styles[peak + 1 :], strict=True):
            line.add(text, style)
        rows.append(line.row(width, style_set.base))
    down = {row: (figure.axes[0].name, row) for row in range(len(rows))}
    key = legend(scale, figure.unit, style_set, width - BORDER) if ramp.coloured else None
    return Painting(finish(rows, width, height, style_set.base), key, {}, down)


def example_windows(figure: Figure) -> list[ExampleWindow] | None:
    """Return tokens, activations and place of the own token; None if the figure lacks them."""
    extra, count = figure.extra, len(figure.axes[0])
    tokens, values, peaks = (extra.get(name, ()) for name in ("tokens", "activations", "peaks"))
    if not len(tokens) == len(values) == len(peaks) == count:
        return None
    result: list[ExampleWindow] = []
    for window_tokens, window_values, peak in zip(tokens, values, peaks, strict=True):
        if len(window_tokens) != len(window_values) or not 0 <= int(peak) < len(window_tokens):
            return None
        result.append(
            (
                [str(token) for token in window_tokens],
                [_number(value) for value in window_values],
                int(peak),
            )
        )
    return result


def page_examples(figure: Figure, look: RenderOptions) -> Mapping[str, Any]:
    """Return the windows of text with their activations, for the html page."""
    windows, ascii_ = example_windows(figure), look.ascii
    if windows is None:
        return page_table(figure, look)
    scale = _scale_of(windows, figure.unit)
    parts = [str(part) for part in figure.extra.get("part", ())]
    parts = parts if len(parts) == len(windows) else [""] * len(windows)
    return {
        "scale": {"kind": scale.kind, "low": scale.low, "high": scale.high},
        "examples": [
            {
                "part": plain_text(part, ascii_),
                "tokens": [token_text(str(token), ascii_) for token in tokens],
                "activations": [value if math.isfinite(value) else None for value in activations],
                "peak": peak,
            }
            for part, (tokens, activations, peak) in zip(parts, windows, strict=True)
        ],
    }


def _scale_of(windows: Sequence[ExampleWindow], unit: str) -> Scale:
    """Return the scale of all activations of the windows."""
    activations = [value for _, values, _ in windows for value in values]
    return Scale.of(np.array(activations, dtype=np.float32), unit, even=True)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _text(token: str, style_set: Styles) -> str:
    """Return a token in running text: its blanks as they are, other white space visible."""
    return " ".join(token_text(part, style_set.look.ascii) for part in token.split(" "))


def _last_that_fit(
    texts: Sequence[str], styles: Sequence[Style], room: int
) -> list[tuple[str, Style]]:
    """Return as many of the last texts as fit, with their styles."""
    pieces: list[tuple[str, Style]] = []
    for text, style in zip(reversed(texts), reversed(styles), strict=True):
        room -= cell_len(text)
        if room < 0:
            break
        pieces.append((text, style))
    return pieces[::-1]
