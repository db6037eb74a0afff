"""Paint a text token by token as it reads, wrapped, each token coloured by a number of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.style import Style

from llmscope.draw.cells import Line, finish, plain_text
from llmscope.draw.grid.window import Window
from llmscope.draw.numbers import number
from llmscope.draw.painting import Box, Painting, Row
from llmscope.draw.scale import Scale, legend
from llmscope.draw.styles import Styles
from llmscope.support.text import VISIBLE, VISIBLE_ASCII, display_text

GUTTERED = 40
"""Minimum width in cells at which each line begins with the position of its first token."""
LEVELS = ("pale", "plain", "bold", "underlined", "both")
"""How numbers show without colours, from the least to the most."""


class Piece(NamedTuple):
    """A token, or a part of one, on a line.

    Attributes:
        position: the token's position.
        text: as shown.
        start, cells: where it begins on its line, and its width.
    """

    position: int
    text: str
    start: int
    cells: int


@dataclass(frozen=True)
class WrappedText:
    """A text in lines of at most `width` cells.

    Attributes:
        labels: the texts of the tokens.
        width: the width in cells.
        ascii: only ASCII is shown.
        lines: the pieces of each line.
        line_of: the line of each token's first piece, ascending.
    """

    labels: tuple[str, ...]
    width: int
    ascii: bool
    lines: tuple[tuple[Piece, ...], ...]
    line_of: tuple[int, ...]

    def moved(self, position: int, by: int) -> int:
        """Return the token `by` lines below a token (above: negative), in the same column."""
        here = self.line_of[position]
        start = next((piece.start for piece in self.lines[here] if piece.position == position), 0)
        step = 1 if by > 0 else -1
        at = max(0, min(here + by, len(self.lines) - 1))
        while 0 <= at < len(self.lines):
            pieces = self.lines[at]
            index = bisect_right([piece.start for piece in pieces], start) - 1
            target = pieces[max(0, index)].position if pieces else position
            if target != position and (self.line_of[target] - here) * step >= 0:
                return target
            at += step  # the line holds nothing but this token, or the end of one before it
        return position


def wrap_tokens(
    labels: Sequence[str],
    width: int,
    ascii: bool,  # noqa: A002
    before: WrappedText | None = None,
) -> WrappedText:
    """Wrap a text of tokens: between words where possible, else between tokens.

    Args:
        labels: the texts of the tokens.
        width: of a line, in cells.
        ascii: show only ASCII.
        before: a text that was wrapped before: its lines are kept up to the first difference.
    """
    labels, width = tuple(labels), max(2, width)
    lines: list[tuple[Piece, ...]] = []
    known: tuple[int, ...] = ()
    if before is not None and (before.width, before.ascii) == (width, ascii):
        if before.labels == labels:
            return before
        kept_lines = _count_unchanged_lines(before, labels)
        if kept_lines:
            lines = list(before.lines[:kept_lines])
            known = before.line_of[: before.lines[kept_lines][0].position]
    wrapper = _Wrapper(width, ascii, lines)
    first_new = len(lines)
    for position in range(len(known), len(labels)):
        wrapper.add(position, labels[position])
    wrapper.close()
    first_line_of = dict[int, int]()
    for at in range(first_new, len(lines)):
        for piece in lines[at]:
            first_line_of.setdefault(piece.position, at)
    line_of, last = list(known), known[-1] if known else 0
    for position in range(len(known), len(labels)):
        # A token without text is where the one before is.
        last = first_line_of.get(position, last)
        line_of.append(last)
    return WrappedText(labels, width, ascii, tuple(lines), tuple(line_of))


def _count_unchanged_lines(before: WrappedText, labels: tuple[str, ...]) -> int:
    """Return the number of lines that a change of the tokens leaves as they are."""
    shared, end = 0, min(len(labels), len(before.labels))
    while shared < end and labels[shared] == before.labels[shared]:
        shared += 1
    if not shared:
        return 0
    # What followed may have moved the last word here from the line before. That line is made again
    # from its first token on: it must begin with a whole one.
    at = max(0, before.line_of[shared - 1] - 1)
    while at and (not before.lines[at] or before.line_of[before.lines[at][0].position] != at):
        at -= 1
    return at


class _Wrapper:
    """Lines under construction.

    Args:
        width: of a line, in cells.
        ascii: show only ASCII.
        lines: gets the finished lines.
    """

    def __init__(self, width: int, ascii: bool, lines: list[tuple[Piece, ...]]) -> None:  # noqa: A002
        self._width, self._ascii, self._lines = width, ascii, lines
        self._line: list[Piece] = []
        self._used = self._word = 0  # cells of the line, and its index where the last word begins

    def add(self, position: int, label: str) -> None:
        """Add a token."""
        *ended, last = label.split("\n")
        for part in ended:
            self._put(position, _display_word(part, self._ascii), goes_on=not part.startswith(" "))
            self._put(position, (VISIBLE_ASCII if self._ascii else VISIBLE)["\n"], goes_on=True)
            self.close()
        self._put(position, _display_word(last, self._ascii), goes_on=not last.startswith(" "))

    def close(self) -> None:
        """Finish the line."""
        if self._line:
            self._lines.append(tuple(self._line))
        self._line, self._used, self._word = [], 0, 0

    def _put(self, position: int, text: str, *, goes_on: bool) -> None:
        """Add a text without a line end, which belongs to the word before if it `goes_on`."""
        cells = cell_len(text)
        if not goes_on:
            self._word = len(self._line)
        if self._used + cells > self._width and self._line:
            moved = self._line[self._word :] if self._word else []
            if sum(piece.cells for piece in moved) + cells > self._width:
                moved = []
            del self._line[len(self._line) - len(moved) :]
            self.close()
            for piece in moved:
                self._append(piece.position, piece.text, piece.cells)
        while cells > self._width:  # a token longer than a line
            cut = _fitting(text, self._width)
            self._append(position, text[:cut], cell_len(text[:cut]))
            self.close()
            text, cells = text[cut:], cell_len(text[cut:])
        if text:
            self._append(position, text, cells)

    def _append(self, position: int, text: str, cells: int) -> None:
        self._line.append(Piece(position, text, self._used, cells))
        self._used += cells


@lru_cache(maxsize=16384)
def _display_word(text: str, ascii: bool) -> str:  # noqa: A002
    return display_text(text, ascii=ascii, cells=True)


def _fitting(text: str, width: int) -> int:
    """Return how many characters fit into a width; at least one."""
    used = 0
    for index, char in enumerate(text):
        used += cell_len(char)
        if used > width:
            return max(1, index)
    return len(text)


def paint_reader(
    text: WrappedText,
    values: NDArray[np.float32] | None,
    height: int,
    style_set: Styles,
    cursor: int,
    *,
    width: int,
    scale: Scale,
    unit: str,
    special: Sequence[bool] = (),
) -> Painting:
    """Paint the lines around the cursor, each token on the colour of its number.

    Args:
        text: the wrapped text.
        values: the number of each token, NaN for a missing one; None paints plain text.
        height: the number of rows.
        style_set: the styles.
        cursor: the position of the cursor.
        width: the width of a row in cells: `gutter_of` and the text's own.
        scale: the ends of the ramp.
        unit: of the numbers.
        special: which tokens are special.
    """
    glyphs = style_set.glyphs
    gutter = gutter_of(len(text.labels), width)
    here = text.line_of[cursor] if 0 <= cursor < len(text.line_of) else 0
    window = Window.around(here, len(text.lines), height)
    thumb = window.thumb(height)
    ramp = scale.ramp(style_set)
    first = text.lines[window.start][0].position if text.lines else 0
    last = text.lines[window.stop - 1][-1].position if text.lines else -1
    steps = [-1] * (last + 1 - first)
    if values is not None and len(values) > last:
        count = len(ramp) if ramp.coloured else len(LEVELS)
        steps = scale.steps(values[first : last + 1], count).tolist()
    plain = _levels(style_set)
    rows: list[Row] = []
    boxes: list[Box] = []
    for row, at in enumerate(window.indices()):
        pieces = text.lines[at]
        line = Line()
        if gutter:
            style = style_set.accent if at == here else style_set.dim
            line.add(f"{pieces[0].position:>{gutter - 1},} ", style)
        for position, word, start, cells in pieces:
            step = steps[position - first]
            if position == cursor:
                style = style_set.cursor
            elif step < 0:
                known = position < len(special) and special[position]
                style = style_set.dim if known else style_set.base
            else:
                style = ramp.styles[step] if ramp.coloured else plain[step]
            line.add(word, style, cells)
            boxes.append(
                (
                    range(gutter + start, gutter + start + cells),
                    range(row, row + 1),
                    "position",
                    position,
                )
            )
        if window.partial:
            line.pad(width - 1, style_set.base)
            inside = thumb[0] <= row < thumb[1]
            line.add(
                glyphs.thumb_down if inside else glyphs.track_down,
                style_set.dim if inside else style_set.border,
                1,
            )
        rows.append(line.row(width, style_set.base))
    key = None if values is None else _legend(scale, unit, style_set, width)
    return Painting(finish(rows, width, height, style_set.base), key, boxes=tuple(boxes))


def gutter_of(count: int, width: int) -> int:
    """Return the width of the numbers before the lines; 0 where there is no room for them."""
    return len(f"{max(count - 1, 0):,}") + 1 if width >= GUTTERED else 0


@lru_cache(maxsize=8)
def _levels(style_set: Styles) -> tuple[Style, ...]:
    base = style_set.base
    return (
        base + Style(dim=True),
        base,
        base + Style(bold=True),
        base + Style(underline=True),
        base + Style(bold=True, underline=True),
    )


def _legend(scale: Scale, unit: str, style_set: Styles, width: int) -> Row:
    """Return the ramp between its ends; without colours, the styles by name."""
    if scale.ramp(style_set).coloured:
        return legend(scale, plain_text(unit, style_set.look.ascii), style_set, width)
    line = Line().add(f"{number(scale.low)} ", style_set.base)
    for name, style in zip(LEVELS, _levels(style_set), strict=True):
        line.add(name, style).add(" ", style_set.base)
    line.add(f"{number(scale.high)} {plain_text(unit, style_set.look.ascii)}", style_set.base)
    return line.row(min(line.width, max(0, width)), style_set.base)
