"""The plots of the `paper` style, one for each kind of figure. Importing needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.font_manager import findfont, get_font

from llmscope.draw.color.theme import load_theme
from llmscope.draw.grid.labels import TOKEN_AXES
from llmscope.draw.kinds import kind_of
from llmscope.draw.scale import Scale, is_difference
from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.export.txt import harmless
from llmscope.figure import Axis, Figure, Focus
from llmscope.figure.cursor import reduce_to_focus
from llmscope.figure.kinds import DRAWN, text_in_place
from llmscope.support.text import display_text, nearest

ROW, LEAST, MOST, EVEN = 11, 110, 600, 190
"""Heights in points: of a row, minimum and maximum of a figure, and of a figure without rows."""
LABELS = 60
"""Maximum number of labels on an axis."""
LABEL = 9
"""Points that a label takes across its text."""
CUT = 12
"""Maximum number of characters of a label of one of several maps."""
WORD, BESIDE = 27, 110
"""Points: the width of a cell with a word in it, and what is beside the cells of such a map."""
BROADEST = 1200
"""The width in points up to which a page grows for words in cells; longer maps are in blocks."""
LEAST_WORD, MOST_WORD, EM = 5.0, 7.0, 0.62
"""Points: sizes of the letters in cells; and the width of a letter as a share of its size."""
PALEST, GREY_BARS = "#ededed", ("#b0b0b0", "#404040", "#707070")
"""Without colours: the lightest grey of a map; bars above and below 0, and others."""
SMALL = 6
"""Size in points of the letters of several maps."""

_ERRORS = {"ecolor": "black", "elinewidth": 0.8, "capsize": 2}
"""How intervals are drawn."""
LONGEST_WORD = 9
"""Maximum number of characters of a word in a cell."""


@dataclass(frozen=True)
class Palette:
    """The colours of the `paper` look: signs have those of the theme `light` on the screen.

    Attributes:
        plain: of maps without signs.
        signed: of maps with signs, from negative to positive.
        above, below: of bars of positive and of negative numbers where there are both.
        bar: of other bars, and of curves.
    """

    plain: Colormap
    signed: Colormap
    above: str
    below: str
    bar: str

    @classmethod
    def of(cls, names: str | None, *, grey: bool = False) -> Palette:
        """Return the palette of the colour maps that `--colors` names.

        Args:
            names: matplotlib's name of the map for values without a sign; after a comma, of that
                for values with one. None, or an empty name: our own map.
            grey: whether our own maps are greys: darker for larger values, but lighter for larger
                values with a sign.

        Raises:
            ScopeError: matplotlib has no map of that name.
        """
        theme = load_theme("light")
        plain, _, signed = (names or "").partition(",")
        steps = [*reversed(theme.negative[1:]), "#ffffff", *theme.positive[1:]]
        ends = PALEST, "#000000"  # white is a missing value
        if grey:
            steps = [*reversed(ends)]
        usual = LinearSegmentedColormap.from_list("greys", ends) if grey else _colours("viridis")
        signs = LinearSegmentedColormap.from_list("signs", steps)
        bars = theme.positive[-2], theme.negative[-2], theme.sequential[-3]
        return cls(
            _colours(plain) if plain else usual,
            _colours(signed.strip()) if signed else signs,
            *(GREY_BARS if grey else bars),
        )


def _colours(name: str) -> Colormap:
    name = name.strip()
    if name not in colormaps:
        near = nearest(name, list(colormaps))
        raise WrongUseError(
            f"matplotlib has no colours {display_text(name)!r}",
            f"{near}, the nearest" if near else "viridis, magma, gray or another of its colormaps",
        )
    return colormaps[name]


@dataclass(frozen=True)
class Block:
    """A figure, or as many columns of it as fit beside each other.

    Attributes:
        figure: the figure.
        scale: that of the whole figure; None: its own.
    """

    figure: Figure
    scale: Scale | None = None


def has_words(figure: Figure) -> bool:
    """Return whether the cells of a map have words."""
    ids, names = figure.extra.get("ids"), figure.extra.get("names")
    if figure.kind != "heatmap" or ids is None or names is None or "target" in figure.extra:
        return False
    return figure.values.ndim == 2 and np.shape(ids) == figure.values.shape


def page_width(figures: Sequence[Figure], narrowest: float) -> float:
    """Return a suitable width of a page, in points: words in cells have room to be read."""
    columns = max((figure.values.shape[1] for figure in figures if has_words(figure)), default=0)
    return min(max(narrowest, BESIDE + WORD * columns), max(BROADEST, narrowest))


def in_blocks(figure: Figure, width: float) -> Iterator[Block]:
    """Yield a map of words in blocks of columns that fit into a width; other figures whole."""
    fit = max(int((width - BESIDE) // WORD), 1)
    if not has_words(figure) or figure.values.shape[1] <= fit:
        yield Block(figure)
        return
    count = -(-figure.values.shape[1] // fit)
    step = -(-figure.values.shape[1] // count)  # blocks of about the same number of columns
    scale, axis = Scale.of_figure(figure), figure.axes[1]
    for first in range(0, len(axis), step):
        columns = slice(first, first + step)
        extra = dict(figure.extra)
        for name in ("ids", "marked", "ranks"):
            if np.shape(extra.get(name, ())) == figure.values.shape:
                extra[name] = np.asarray(extra[name])[:, columns]
        labels = axis.labels[columns]
        end = axis.start + (first + len(labels)) * axis.step - 1
        part = replace(
            figure,
            title=f"{figure.title} · {axis.name} {axis.start + first * axis.step} to {end}",
            axes=(
                figure.axes[0],
                Axis(axis.name, labels, axis.start + first * axis.step, axis.step),
            ),
            values=figure.values[:, columns],
            extra=extra,
        )
        yield Block(part, scale)


def _is_curve(figure: Figure) -> bool:
    """Return whether bars are means with intervals along an axis that has an order."""
    extra = figure.extra
    return figure.kind == "bars" and bool(extra.get("ordered")) and "low" in extra


def _errors(figure: Figure) -> Any:
    """Return how far intervals reach below and above the values; None without intervals."""
    ends = [figure.extra.get(name) for name in ("low", "high")]
    if any(end is None for end in ends):
        return None
    low, high = (np.asarray(end, np.float64) for end in ends)
    if low.shape != figure.values.shape or high.shape != figure.values.shape:
        return None
    values = figure.values.astype(np.float64)
    # A percentile interval may miss its mean by a little; an error bar cannot be negative.
    return np.clip(np.stack([values - low, high - values]), 0, None)


class Plots:
    """Draws figures into parts of a page."""

    def __init__(self, focus: Focus, every_glyph: bool, palette: Palette) -> None:
        self.focus = focus
        self.every_glyph = every_glyph
        self.palette = palette

    def height(self, figure: Figure, width: float) -> float:
        """Return a suitable height for a figure of a width, both in points."""
        if text_in_place(figure) is not None:
            return LEAST // 2
        if figure.kind == "lines" or _is_curve(figure):
            return EVEN
        if figure.kind == "heatmap" and len(figure.axes) > 2:
            across = _across(len(figure.axes[0]))
            down = -(-len(figure.axes[0]) // across)
            square = max((width - BESIDE) / across - LABEL, LABEL)
            shape = len(figure.axes[-2]) / max(len(figure.axes[-1]), 1)
            return max(2 * EVEN, down * (square * min(shape, 1) + 2 * LABEL) + LEAST)
        rows = len(figure.axes[-2 if figure.kind == "heatmap" and len(figure.axes) > 1 else 0])
        natural = max(rows * ROW + 70, LEAST)
        return natural if has_words(figure) else min(natural, MOST)

    def draw(self, part: Any, figure: Figure, width: float, scale: Scale | None = None) -> None:
        """Draw a figure, or the reason of a refused one, into a part of a page.

        Args:
            part: a matplotlib subfigure.
            figure: the figure.
            width: of the part, in points.
            scale: of the colours of a map; None: that of its values.

        Raises:
            ScopeError: the figure is a table.
        """
        verdict = figure.verdict
        title = figure.title
        if verdict.status != "verified":
            title += f" · {verdict.status}"
            title += f": {verdict.reason}" if verdict.reason and verdict.status != "refused" else ""
        part.suptitle(fill(self.shown(title), max(int(width // 5), 20)), fontsize=9)
        text = text_in_place(figure)
        if text is not None:
            wrapped = fill(self.shown(text), max(int(width // 5), 20))
            part.text(0.5, 0.3, wrapped, ha="center", va="center")
            return None
        figure = reduce_to_focus(figure, DRAWN.get(figure.kind, 2), self.focus)
        plot = kind_of(figure, self.focus).plot
        if plot is not None:
            return plot(part.subplots(), figure)
        if figure.kind == "table":
            raise ScopeError(
                f"{figure.lens} is a table here, which has no axes to plot",
                f"another {option('mode')}, or the look of the terminal",
            )
        if figure.kind == "heatmap":
            self._heatmap(part, figure, width, scale)
        elif figure.kind == "lines":
            self._lines(part, figure)
        else:
            self._bars(part, figure)
        return None

    def shown(self, text: str, *, whitespace: bool = False) -> str:
        """Return untrusted text sanitized, without characters that cannot be drawn."""
        safe = harmless(display_text(text, whitespace=whitespace).replace("\n", " "))
        if self.every_glyph:
            return safe
        return "".join(
            char if _font_has(char) else char.encode("ascii", "backslashreplace").decode()
            for char in safe
        )

    def _heatmap(self, part: Any, figure: Figure, width: float, known_scale: Scale | None) -> None:
        values = np.ma.masked_invalid(figure.values)
        if values.ndim == 1:
            values = values[None]
        scale = known_scale or Scale.of_figure(figure)
        norm = (LogNorm if scale.kind == "log" else Normalize)(scale.low, scale.high)
        colours = self.palette.signed if scale.kind == "signed" else self.palette.plain
        maps = values[None] if values.ndim == 2 else values
        across = _across(len(maps))
        down = -(-len(maps) // across)
        grid = part.subplots(down, across, squeeze=False)
        room = tall = None
        if len(maps) > 1:
            room = (width - BESIDE) / across
            tall = (self.height(figure, width) - LEAST) / down - 2 * LABEL
        for axes in grid.flat[len(maps) :]:
            axes.set_axis_off()
        for index, (axes, cells) in enumerate(zip(grid.flat, maps, strict=False)):
            # A mesh stays vector graphics; an image would put pixels into the file.
            # Edges in the colour of their cells: viewers of PDF draw light seams between others.
            mesh = axes.pcolormesh(cells, cmap=colours, norm=norm, edgecolors="face", linewidth=0.2)
            axes.invert_yaxis()
            # Of several maps those at the edge have the labels for their row and column.
            if index + across >= len(maps):
                self._labels(axes, "x", figure.axes[-1], 0.5, room)
            else:
                axes.set_xticks([])
            if len(figure.axes) > 1 and index % across == 0:
                self._labels(axes, "y", figure.axes[-2], 0.5, tall)
            else:
                axes.set_yticks([])
            if room is not None:
                label = self.shown(figure.axes[0].labels[index]).strip()
                named = f"{self.shown(figure.axes[0].name)} {label}"
                axes.set_title(named if len(named) * SMALL < room else label, fontsize=SMALL, pad=2)
        if len(maps) == 1:
            self._words(grid[0, 0], figure, norm, colours, width)
            self._marks(grid[0, 0], figure, norm, colours)
        bar = part.colorbar(mesh, ax=grid, label=self.shown(figure.unit))
        bar.solids.set(edgecolor="face", rasterized=False)  # vector graphics without seams

    def _words(
        self, axes: Any, figure: Figure, norm: Normalize, colours: Any, width: float
    ) -> None:
        """Write the top token of each cell into it, if the figure has them, as large as fits."""
        if not has_words(figure):
            return
        ids, names = np.asarray(figure.extra["ids"]), figure.extra["names"]
        cell = (width - BESIDE) / figure.values.shape[1]
        longest = max((len(name.strip()) for name in names.values()), default=1)
        size = min(max(cell / (EM * min(max(longest, 1), LONGEST_WORD)), LEAST_WORD), MOST_WORD)
        for place, value in np.ndenumerate(figure.values):
            word = names.get(int(ids[place]))
            if word is None or not np.isfinite(value):
                continue
            light = np.dot(colours(norm(value))[:3], (0.3, 0.59, 0.11)) > 0.5
            colour = "black" if light else "white"
            text = self.shown(word.strip() or word, whitespace=not word.strip())
            text = text if len(text) <= LONGEST_WORD else f"{text[: LONGEST_WORD - 1]}…"
            middle = place[1] + 0.5, place[0] + 0.5
            axes.text(*middle, text, color=colour, fontsize=size, ha="center", va="center")

    def _marks(self, axes: Any, figure: Figure, norm: Normalize, colours: Any) -> None:
        """Put a dot into each cell that the figure marks, such as those that differ from 0."""
        marked = figure.extra.get("marked")
        if marked is None or np.shape(marked) != figure.values.shape or figure.values.ndim != 2:
            return
        for row, column in np.argwhere(np.asarray(marked, np.bool_)):
            light = np.dot(colours(norm(figure.values[row, column]))[:3], (0.3, 0.59, 0.11)) > 0.5
            axes.plot(column + 0.5, row + 0.5, ".", color="black" if light else "white", ms=3)

    def _bars(self, part: Any, figure: Figure) -> None:
        if _is_curve(figure):
            return self._curve(part, figure)
        axes, places = part.subplots(), range(len(figure.values))
        colours: Any = self.palette.bar
        if is_difference(figure) or np.any(figure.values < 0):
            signs = self.palette.below, self.palette.above
            colours = [signs[int(value >= 0)] for value in figure.values]
        finite = np.where(np.isfinite(figure.values), figure.values, np.nan)
        axes.barh(places, finite, color=colours, xerr=_errors(figure), error_kw=_ERRORS)
        axes.set_ylim(len(figure.values) - 0.5, -0.5)
        axes.axvline(0, color="black", linewidth=0.6)
        self._labels(axes, "y", figure.axes[0], 0)
        axes.set_xlabel(self.shown(figure.unit))
        axes.spines[["top", "right"]].set_visible(False)
        return None

    def _curve(self, part: Any, figure: Figure) -> None:
        """Plot means with their intervals along an axis that has an order."""
        axes, places = part.subplots(), range(len(figure.values))
        errors = _errors(figure)
        axes.errorbar(
            places, figure.values, yerr=errors, marker=".", color=self.palette.bar, **_ERRORS
        )
        if figure.extra.get("change"):
            axes.axhline(0, color="black", linewidth=0.6)
        self._labels(axes, "x", figure.axes[0], 0)
        axes.set_ylabel(self.shown(figure.unit))
        axes.spines[["top", "right"]].set_visible(False)

    def _lines(self, part: Any, figure: Figure) -> None:
        axes, values = part.subplots(), np.ma.masked_invalid(figure.values)
        several = len(figure.axes) > 1
        for index, line in enumerate(values if several else values[None]):
            label = self.shown(figure.axes[0].labels[index]) if several else None
            axes.plot(range(line.size), line, marker=".", label=label)
        if several:
            axes.legend(title=self.shown(figure.axes[0].name), fontsize=7)
        self._labels(axes, "x", figure.axes[-1], 0)
        axes.set_ylabel(self.shown(figure.unit))
        axes.spines[["top", "right"]].set_visible(False)

    def _labels(
        self, axes: Any, which: str, axis: Axis, middle: float, room: float | None = None
    ) -> None:
        """Set the name and labels of one axis, skipping labels at even steps if there are many.

        Args:
            axes: where they are drawn.
            which: x or y.
            axis: has the labels.
            middle: the place of a label within its cell.
            room: points along the axis of one of several maps; None: it has the whole width.
        """
        limit = LABELS if room is None else max(int(room // LABEL), 1)
        places = range(0, len(axis), -(-len(axis) // limit) or 1)
        tokens = axis.name in TOKEN_AXES
        words = [self.shown(axis.labels[place], whitespace=tokens) for place in places]
        turned = which == "x" and max(map(len, words)) * len(words) > LABELS
        size: dict[str, Any] = {}
        if room is not None:
            words = [word if len(word) <= CUT else f"{word[: CUT - 1]}…" for word in words]
            turned = which == "x" and max(map(len, words)) * len(words) * SMALL > room
            size = {"fontsize": SMALL}
        setting = axes.set_xticks if which == "x" else axes.set_yticks
        setting([place + middle for place in places], words, rotation=90 if turned else 0, **size)
        (axes.set_xlabel if which == "x" else axes.set_ylabel)(self.shown(axis.name), **size)


def _across(count: int) -> int:
    """Return how many of several maps are beside each other."""
    return int(np.ceil(np.sqrt(count)))


class OneAxes:
    """Axes of the caller's, in place of a part of a page."""

    def __init__(self, axes: Any) -> None:
        self._axes = axes

    def subplots(self, *_: int, squeeze: bool = True) -> Any:
        """Return the axes; in an array of one row and column unless `squeeze`."""
        return self._axes if squeeze else np.array([[self._axes]], dtype=object)

    def suptitle(self, text: str, fontsize: int) -> None:
        """Set the title of the axes."""
        self._axes.set_title(text, fontsize=fontsize)

    def colorbar(self, mesh: Any, ax: Any, label: str) -> Any:
        """Draw a colour bar beside the axes."""
        return self._axes.figure.colorbar(mesh, ax=self._axes, label=label)

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a text at a place given as shares of the axes' width and height."""
        self._axes.text(x, y, text, transform=self._axes.transAxes, **style)
        self._axes.set_axis_off()


@cache
def _font_has(char: str) -> bool:
    """Return whether matplotlib's own font has the character."""
    return bool(get_font(findfont("DejaVu Sans")).get_char_index(ord(char)))
