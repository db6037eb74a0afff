"""The cells that the terminal shows, and the shortest output that makes them as they should be.

Textual sends whole runs of cells again if one has changed, and every style from scratch.
`TerminalCells` takes Textual's updates and keeps them as cells, beside those that the terminal
has: only the difference is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate

from llmscope.tui.terminal.scroll import UNKNOWN, Cell, Ink, scroll_row

PLAIN: Ink = ("", "", "")
BLANK: Cell = (" ", PLAIN)
NEAR = 4
"""The most unchanged cells that are sent again rather than jumped over, which costs as much."""
EMOJI = "\U0001f000"
"""From here on, and for combined characters, terminals differ in how far they advance."""
_ATTRIBUTES = (
    ("bold", "1"),
    ("dim", "2"),
    ("italic", "3"),
    ("underline", "4"),
    ("blink", "5"),
    ("blink2", "6"),
    ("reverse", "7"),
    ("conceal", "8"),
    ("strike", "9"),
    ("underline2", "21"),
    ("frame", "51"),
    ("encircle", "52"),
    ("overline", "53"),
)
_FAINT = frozenset(("", "1", "2", "3", "1;2", "1;3", "2;3", "1;2;3"))
"""Attributes that are invisible on a blank, as is its foreground colour."""


class TerminalCells:
    """The cells that should be shown, and the cells that the terminal shows."""

    def __init__(self) -> None:
        self._wanted: list[list[Cell]] = []
        self._shown: list[list[Cell]] = []
        self._dirty: set[int] = set()
        self._width = 0
        self._colours = ColorSystem.TRUECOLOR

    def forget(self) -> None:
        """Mark all of the terminal's cells as unknown, so that everything is sent again."""
        self._shown = [[UNKNOWN] * self._width for _ in self._wanted]
        self._dirty = set(range(len(self._wanted)))

    @property
    def size(self) -> tuple[int, int]:
        """Return the numbers of columns and rows."""
        return self._width, len(self._wanted)

    def take(self, update: CompositorUpdate, colours: ColorSystem | None = None) -> None:
        """Apply an update of the screen to the cells that should be shown.

        Args:
            colours: the colour system to reduce colours to; None for 24 bits.
        """
        self._colours = colours or ColorSystem.TRUECOLOR
        if isinstance(update, LayoutUpdate):
            width, height = update.region.right, update.region.bottom
            if (width, height) != self.size:
                self._width = width
                self._wanted = [[BLANK] * width for _ in range(height)]
                self.forget()
            for y, strips in enumerate(update.strips, update.region.y):
                self._put(y, update.region.x, chain.from_iterable(strips))
        elif isinstance(update, ChopsUpdate):
            for y, start, stop in update.spans:
                for end, (x, strip) in zip(
                    update.chop_ends[y], update.chops[y].items(), strict=False
                ):
                    if strip is not None and x <= stop and end > start:
                        whole = start <= x < stop and end <= stop
                        self._put(y, x, strip if whole else strip.crop(0, min(end, stop) - x))

    def _put(self, y: int, x: int, segments: Iterable[Segment]) -> None:
        if not 0 <= y < len(self._wanted):
            return
        cells: list[Cell] = []
        for text, style, control in segments:
            if not control:
                cells += _cells(text, ink(style, self._colours) if style else PLAIN)
        row = self._wanted[y]
        row[x : x + len(cells)] = cells[: self._width - x]
        self._dirty.add(y)

    @property
    def waiting(self) -> bool:
        """Return whether there may be changes to send."""
        return bool(self._dirty)

    def changes(self, near: int = 0, limit: int | None = None) -> str:
        """Return the changes to send, which then count as shown.

        Args:
            near: the row to send first, where the user types. The others follow by distance.
            limit: number of characters after which no further row is begun.
        """
        out: list[str] = []
        length = 0
        for y in sorted(self._dirty, key=lambda y: (abs(y - near), y)):
            if limit is not None and length >= limit:
                break
            self._dirty.remove(y)
            wanted, result = self._wanted[y], self._shown[y]
            if wanted != result:
                sent = "".join(_row(y, wanted, result))
                if moves := scroll_row(y, wanted, result):
                    sent = min(sent, moves[0] + "".join(_row(y, wanted, moves[1])), key=len)
                self._shown[y] = wanted.copy()
                out.append(sent)
                length += len(sent)
        return "".join(out)


def _row(y: int, wanted: list[Cell], on_terminal: list[Cell]) -> Iterator[str]:
    """Yield the output that updates a row. It begins and ends in the plain style."""
    pen, at = PLAIN, -1
    for start, stop in _spans(wanted, on_terminal):
        between = wanted[at:start] if at >= 0 else []
        if at < 0:
            yield f"\x1b[{y + 1};{start + 1}H"
        elif len(between) > NEAR or any(_towards(pen, cell)[0] for cell in between):
            yield f"\x1b[{start + 1}G"
        else:
            yield "".join(text for text, _ in between)
        unsure = False
        for x, cell in enumerate(wanted[start:stop], start + 1):
            if cell[0]:
                codes, pen = _towards(pen, cell)
                yield f"\x1b[{x}G{codes}{cell[0]}" if unsure else codes + cell[0]
                unsure = len(cell[0]) > 1 or cell[0] >= EMOJI
        at = stop
    if pen != PLAIN:
        yield "\x1b[m"


def _spans(wanted: list[Cell], on_terminal: list[Cell]) -> Iterator[tuple[int, int]]:
    """Yield the runs of cells that differ, never splitting a wide character."""
    at, width = 0, len(wanted)
    while at < width:
        if wanted[at] == on_terminal[at]:
            at += 1
            continue
        start, stop = at, at + 1
        while start > 0 and not (wanted[start][0] and on_terminal[start][0]):
            start -= 1
        while stop < width and (
            wanted[stop] != on_terminal[stop] or not (wanted[stop][0] and on_terminal[stop][0])
        ):
            stop += 1
        yield start, stop
        at = stop


def _towards(pen: Ink, cell: Cell) -> tuple[str, Ink]:
    """Return the sequence that switches the style from `pen` to a cell's, and the new style."""
    text, (attributes, colour, background) = cell
    if text == " " and not attributes and not colour and pen[0] in _FAINT:
        attributes, colour = pen[0], pen[1]
    if (attributes, colour, background) == pen:
        return "", pen
    codes = []
    before = pen
    if attributes != pen[0]:
        if pen[0]:
            codes.append("0")
            before = PLAIN
        codes.append(attributes)
    if colour != before[1]:
        codes.append(colour or "39")
    if background != before[2]:
        codes.append(background or "49")
    return f"\x1b[{';'.join(filter(None, codes))}m", (attributes, colour, background)


@lru_cache(maxsize=4096)
def ink(style: Style, colours: ColorSystem) -> Ink:
    """Return the codes of a style, with its colours reduced to what the terminal has."""
    attributes = [code for name, code in _ATTRIBUTES if getattr(style, name)]
    colour, background = (
        ";".join(color.downgrade(colours).get_ansi_codes(foreground)) if color else ""
        for color, foreground in ((style.color, True), (style.bgcolor, False))
    )
    # The terminal's default colours (39, 49) become empty, so that equal styles compare equal.
    return (
        ";".join(attributes),
        "" if colour == "39" else colour,
        "" if background == "49" else background,
    )


@lru_cache(maxsize=16384)
def _cells(text: str, ink: Ink) -> tuple[Cell, ...]:
    """Return a text as cells."""
    blank = (" ", ("", "", ink[2]) if ink[0] in _FAINT else ink)
    if text.isascii():
        return tuple(blank if char == " " else (char, ink) for char in text)
    cells: list[Cell] = []
    for char in text:
        width = cell_len(char)
        if width:
            cells += [blank if char == " " else (char, ink), *[("", ink)] * (width - 1)]
        else:
            base = next((i for i in reversed(range(len(cells))) if cells[i][0]), None)
            if base is None:
                break
            cells[base] = (cells[base][0] + char, ink)
    length = cell_len(text)
    if len(cells) == length and "".join(char for char, _ in cells) == text:
        return tuple(cells)
    # Characters that only the terminal knows how to combine are sent together or not at all.
    return ((text, ink), *[("", ink)] * (length - 1)) if length else ()
