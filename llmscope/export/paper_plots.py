"""The plots of the `paper` style, one for each kind of figure. Importing needs matplotlib."""

from __future__ import annotations

from functools import cache
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.font_manager import findfont, get_font

from llmscope.draw.grid.labels import TOKEN_AXES
from llmscope.draw.painters.generic import reduced
from llmscope.draw.scale import Scale, is_difference
from llmscope.errors import ScopeError
from llmscope.export.txt import harmless
from llmscope.figure import Axis, Figure, Focus
from llmscope.text import display_text

ROW, LEAST, MOST, EVEN = 11, 110, 600, 190
"""Heights in points: of a row, minimum and maximum of a figure, and of a figure without rows."""
ABOVE, BELOW = "#2166ac", "#b2182b"
LABELS = 60
"""Maximum number of labels on an axis."""
NAMED = 400
"""Maximum number of cells of a map that shows words in its cells."""

_ERRORS = {"ecolor": "black", "elinewidth": 0.8, "capsize": 2}
"""How intervals are drawn."""
LONGEST = 9
"""Maximum number of characters of a word in a cell."""


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

    def __init__(self, focus: Focus, every_glyph: bool) -> None:
        self.focus = focus
        self.every_glyph = every_glyph

    def height(self, figure: Figure) -> int:
        """Return a suitable height for a figure, in points."""
        if figure.verdict.status == "refused" or not figure.values.size or not figure.axes:
            return LEAST // 2
        if figure.kind == "lines" or _is_curve(figure):
            return EVEN
        if figure.kind == "heatmap" and len(figure.axes) > 2:
            return 2 * EVEN
        rows = len(figure.axes[-2 if figure.kind == "heatmap" and len(figure.axes) > 1 else 0])
        return min(max(rows * ROW + 70, LEAST), MOST)

    def draw(self, part: Any, figure: Figure, width: int) -> None:
        """Draw a figure, or the reason of a refused one, into a part of a page.

        Args:
            part: a matplotlib subfigure.
            figure: the figure.
            width: of the part, in points.

        Raises:
            ScopeError: the figure is a table.
        """
        verdict = figure.verdict
        title = figure.title
        if verdict.status != "verified":
            title += f" · {verdict.status}"
            title += f": {verdict.reason}" if verdict.reason and verdict.status != "refused" else ""
        part.suptitle(fill(self.shown(title), max(width // 5, 20)), fontsize=9)
        if verdict.status == "refused":
            return self._message(part, verdict.reason, width)
        if not figure.values.size:
            return self._message(part, "nothing to show", width)
        if not figure.axes:
            return self._message(part, f"{float(figure.values):.4g} {figure.unit}", width)
        if figure.kind == "table":
            raise ScopeError(
                f"{figure.lens} is a table here, which has no axes to plot",
                "another --mode, or the look of the terminal",
            )
        kept = {"heatmap": 3, "lines": 2}.get(figure.kind, 1)
        figure = reduced(figure, kept, self.focus)
        {"heatmap": self._heatmap, "lines": self._lines}.get(figure.kind, self._bars)(part, figure)
        return None

    def shown(self, text: str, *, whitespace: bool = False) -> str:
        """Return untrusted text sanitized, without characters that cannot be drawn."""
        safe = harmless(display_text(text, whitespace=whitespace).replace("\n", " "))
        if self.every_glyph:
            return safe
        return "".join(
            char if _drawn(char) else char.encode("ascii", "backslashreplace").decode()
            for char in safe
        )

    def _message(self, part: Any, text: str, width: int) -> None:
        part.text(0.5, 0.3, fill(self.shown(text), max(width // 5, 20)), ha="center", va="center")

    def _heatmap(self, part: Any, figure: Figure) -> None:
        values = np.ma.masked_invalid(figure.values)
        if values.ndim == 1:
            values = values[None]
        signed = is_difference(figure)
        scale = Scale.of(figure.values, figure.unit, signed=signed)
        norm = (LogNorm if scale.kind == "log" else Normalize)(scale.low, scale.high)
        colours = colormaps["RdBu" if scale.kind == "signed" else "viridis"]
        maps = values[None] if values.ndim == 2 else values
        across = int(np.ceil(np.sqrt(len(maps))))
        grid = part.subplots(-(-len(maps) // across), across, squeeze=False)
        for axes in grid.flat[len(maps) :]:
            axes.set_axis_off()
        for index, (axes, cells) in enumerate(zip(grid.flat, maps, strict=False)):
            # A mesh stays vector graphics; an image would put pixels into the file.
            mesh = axes.pcolormesh(cells, cmap=colours, norm=norm)
            axes.invert_yaxis()
            self._labels(axes, "x", figure.axes[-1], 0.5)
            if len(figure.axes) > 1:
                self._labels(axes, "y", figure.axes[-2], 0.5)
            else:
                axes.set_yticks([])
            if len(maps) > 1:
                one = figure.axes[0]
                axes.set_title(self.shown(f"{one.name} {one.labels[index]}"), fontsize=8)
        if len(maps) == 1:
            self._words(grid[0, 0], figure, norm, colours)
            self._marks(grid[0, 0], figure, norm, colours)
        bar = part.colorbar(mesh, ax=grid, label=self.shown(figure.unit))
        bar.solids.set(edgecolor="face", rasterized=False)  # vector graphics without seams

    def _words(self, axes: Any, figure: Figure, norm: Normalize, colours: Any) -> None:
        """Write the top token of each cell into it, if the figure has them and is small enough."""
        ids, names = figure.extra.get("ids"), figure.extra.get("names")
        if ids is None or names is None or "target" in figure.extra or figure.values.size > NAMED:
            return
        if np.shape(ids) != figure.values.shape or figure.values.ndim != 2:
            return
        for place, value in np.ndenumerate(figure.values):
            word = names.get(int(np.asarray(ids)[place]))
            if word is None or not np.isfinite(value):
                continue
            light = np.dot(colours(norm(value))[:3], (0.3, 0.59, 0.11)) > 0.5
            colour = "black" if light else "white"
            said = self.shown(word.strip() or word)
            said = said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
            middle = place[1] + 0.5, place[0] + 0.5
            axes.text(*middle, said, color=colour, fontsize=5, ha="center", va="center")

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
        colours = [BELOW if value < 0 else ABOVE for value in figure.values]
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
        axes.errorbar(places, figure.values, yerr=errors, marker=".", color=ABOVE, **_ERRORS)
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

    def _labels(self, axes: Any, which: str, axis: Axis, middle: float) -> None:
        """Set the name and labels of one axis, skipping labels at even steps if there are many."""
        places = range(0, len(axis), -(-len(axis) // LABELS) or 1)
        tokens = axis.name in TOKEN_AXES
        words = [self.shown(axis.labels[place], whitespace=tokens) for place in places]
        turned = which == "x" and max(map(len, words)) * len(words) > LABELS
        setting = axes.set_xticks if which == "x" else axes.set_yticks
        setting([place + middle for place in places], words, rotation=90 if turned else 0)
        (axes.set_xlabel if which == "x" else axes.set_ylabel)(self.shown(axis.name))


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
def _drawn(char: str) -> bool:
    """Return whether matplotlib's own font has the character."""
    return bool(get_font(findfont("DejaVu Sans")).get_char_index(ord(char)))
