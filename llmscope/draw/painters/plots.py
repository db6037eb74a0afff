"""A wrapper around plotext that returns text with series numbers instead of colours.

plotext has a single figure per process and is not thread-safe, so a lock guards it. It colours
by number only, so this module returns glyphs and series numbers, and the caller styles them with
the theme and colour tier.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmscope.draw.styles import Styles

_lock = Lock()
_RUN = re.compile(r"((?:\x1b\[[0-9;]*m)*)([^\x1b]*)")
_FOREGROUND = re.compile(r"38;5;(\d+)")
_FIRST_SERIES = 16
"""The plotext colour number of the first series; the others follow."""


def bar_texts(shares: Sequence[float], width: int, style_set: Styles) -> list[str]:
    """Draw horizontal bars, one per row, each exactly `width` cells, in steps of 1/8 cell.

    Shares are between 0 and 1. A positive share shows at least the thinnest line; NaN shows none.
    """
    glyphs = style_set.glyphs
    parts = len(glyphs.tips)
    if width < 1 or not shares:
        return [""] * len(shares)
    lengths = [_length(share, width * parts) for share in shares]
    if not any(lengths):
        return [" " * width] * len(shares)
    with _lock:
        figure = _blank(width, len(shares))
        rows = range(len(shares), 0, -1)
        whole = [(y, n // parts) for y, n in zip(rows, lengths, strict=True) if n >= parts]
        tips = [(y, n // parts, n % parts) for y, n in zip(rows, lengths, strict=True) if n % parts]
        if whole:
            # A bar ends in the middle of its last cell; thinner than a row, it fills only one row.
            bars = figure.bar(
                [y for y, _ in whole],
                [cells - 0.5 for _, cells in whole],
                orientation="horizontal",
                width=0.01,
                marker=glyphs.bar,
            )
            figure.draw(bars)
        if tips:
            ends = figure.signal(
                [cells + 0.5 for _, cells, _ in tips],
                [y for y, *_ in tips],
                marker=[glyphs.tips[eighths] for *_, eighths in tips],
            )
            figure.draw(ends.lines(False))
        _limits(figure, (0, width), (0.5, len(shares) + 0.5))
        lines = figure.build().string(colorless=True).split("\n")
    return [f"{line:<{width}}"[:width] for line in lines[: len(shares)]]


def signed_bar_texts(shares: Sequence[float], width: int, style_set: Styles) -> list[str]:
    """Draw bars from a common zero, negative ones to the left; each text is `width` cells.

    Shares are between -1 and 1. Without a negative one they are those of `bar_texts`. Both sides
    have the same scale, and the longest bar reaches the end of its side.
    """
    shares = [max(-1.0, min(share, 1.0)) if not math.isnan(share) else 0.0 for share in shares]
    low = max((-share for share in shares if share < 0), default=0.0)
    high = max((share for share in shares if share > 0), default=0.0)
    if not low or width < 2:
        return bar_texts([abs(share) for share in shares], width, style_set)
    left = width if not high else max(1, min(width - 1, round(width * low / (low + high))))
    right = width - left
    unit = min(left / low, right / high) if high else left / low
    tips = style_set.glyphs.left_tips
    texts = []
    after = bar_texts(
        [max(0.0, share) * unit / max(right, 1) for share in shares], right, style_set
    )
    for share, text in zip(shares, after, strict=True):
        steps = _length(-share * unit / left, left * len(tips))
        whole, tip = divmod(steps, len(tips))
        bar = tips[tip].strip() + style_set.glyphs.bar * whole
        texts.append(f"{bar:>{left}}{text}")
    return texts


def _length(share: float, parts: int) -> int:
    if not share > 0:
        return 0
    return max(1, round(min(share, 1.0) * parts))


def line_runs(
    series: Sequence[NDArray[np.float32]],
    low: float,
    high: float,
    width: int,
    height: int,
    style_set: Styles,
    marks: str = "",
) -> list[list[tuple[str, int]]]:
    """Draw curves over a common x axis 0, 1, … as rows of (text, series number; −1 for blank).

    Curves are braille dots, or one `*` per point in ASCII. NaN leaves a gap.

    Args:
        series: the y values of each curve.
        low, high: range of the y axis.
        width, height: the size in cells.
        style_set: the styles, of which only the character set is used.
        marks: characters to draw the curves with instead, one per curve.
    """
    usual = "*" if style_set.look.ascii else "braille"
    with _lock:
        import plotext

        figure = _blank(width, height)
        for index, values in enumerate(series):
            marker = marks[index % len(marks)] if marks else usual
            for start, stop in _stretches(np.isfinite(values)):
                curve = figure.signal(
                    list(range(start, stop)),
                    values[start:stop].tolist(),
                    marker=plotext.marker(marker, _FIRST_SERIES + index),
                )
                figure.draw(curve.lines(stop - start > 1))
        longest = max((len(values) for values in series), default=1)
        _limits(figure, (0, max(longest - 1, 1)), (low, high))
        text = figure.build().string()
    return [_runs(line) for line in text.split("\n")[:height]]


def _blank(width: int, height: int) -> Any:
    """Return plotext's single figure, cleared, with nothing around the canvas."""
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(False)
    figure.legend(False)
    figure.canvas("default")
    return figure


def _limits(figure: Any, across: tuple[float, float], up: tuple[float, float]) -> None:
    figure.ruler("x", "lower").ticks([], [])
    figure.ruler("y", "left").ticks([], [])
    figure.ruler("x", "lower").lim(*across)
    figure.ruler("y", "left").lim(*up)


def _stretches(known: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return (start, stop) of each stretch of values without a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], known, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _runs(line: str) -> list[tuple[str, int]]:
    runs: list[tuple[str, int]] = []
    for codes, text in _RUN.findall(line):
        if text:
            match = _FOREGROUND.search(codes)
            number = int(match[1]) - _FIRST_SERIES if match and text.strip() else -1
            runs.append((text, number))
    return runs
