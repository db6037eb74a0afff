"""Map values to steps of a colour ramp, and draw the legend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from llmscope.draw.cells import Line, plain_text
from llmscope.draw.numbers import number
from llmscope.draw.painting import Row
from llmscope.draw.styles import Ramp, Styles
from llmscope.figure import SIGNED_WEIGHT, Figure

DECADES = 3
"""A positive scale that spans more decades than this is logarithmic."""
ENDS = {"class gaps": 1.0}
"""By unit: the ends of a signed scale. What lies beyond has the colour of the end: a probe's score
at the first token, whose stream is tens of times as long as others, would fade all the rest."""
BORDER = 4
"""Cells of the border taken by the frame's corners and the blanks beside the legend."""
LOWEST = -12
"""The lowest power of ten at which a scale of probabilities begins."""
SHORTEST, LONGEST = 3, 12
"""Minimum and maximum length of a legend's ramp, in cells."""


@dataclass(frozen=True)
class Scale:
    """A mapping of values to a ramp: linear, logarithmic, or linear and symmetric about zero."""

    low: float
    high: float
    kind: Literal["linear", "log", "signed"]

    @classmethod
    def of(
        cls,
        values: NDArray[np.float32],
        unit: str = "",
        *,
        even: bool = False,
        signed: bool = False,
        decades: bool = False,
    ) -> Scale:
        """Return the scale that shows all of the values.

        Args:
            values: the values; those that are not finite are ignored.
            unit: `probability` gives 0 to 1, unless a value is above 1.001; see `ENDS`.
            even: never use a logarithmic scale; otherwise positive values that span more than
                three decades get one.
            signed: use a signed scale (for differences) even if no value is negative.
            decades: give probabilities a logarithmic scale, from a power of ten up to 1; see
                `in_decades`.
        """
        finite = values[np.isfinite(values)]
        if not finite.size:
            return cls(0.0, 1.0, "linear")
        if unit in ENDS:
            return cls(-ENDS[unit], ENDS[unit], "signed")
        low, high = float(finite.min()), float(finite.max())
        if low < 0 or signed:
            largest = max(-low, high)
            return cls(-largest if largest else 0.0, largest, "signed")
        if decades and unit == "probability" and (positive := finite[finite > 0]).size:
            smallest = math.floor(math.log10(float(positive.min())))
            return cls(10.0 ** min(max(smallest, LOWEST), -1), max(1.0, high), "log")
        if unit == "probability" and high <= 1.001:
            return cls(0.0, 1.0, "linear")
        if low > 0 and high / low > 10**DECADES and not even:
            return cls(low, high, "log")
        return cls(low, high, "linear")

    @classmethod
    def of_figure(cls, figure: Figure, *, even: bool = False) -> Scale:
        """Return the scale of the values of a figure."""
        signed, decades = is_difference(figure), in_decades(figure)
        return cls.of(figure.values, figure.unit, even=even, signed=signed, decades=decades)

    def ramp(self, style_set: Styles) -> Ramp:
        """Return the ramp for this scale."""
        return style_set.diverging if self.kind == "signed" else style_set.sequential

    def steps(self, values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the step of each value, 0 to count − 1; −1 for NaN. Infinities map to the ends."""
        place = np.nan_to_num(
            values.astype(np.float64), nan=np.nan, posinf=self.high, neginf=self.low
        )
        if self.kind == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                place = np.log(np.maximum(place, self.low) / self.low)
            span = float(np.log(self.high / self.low))
        else:
            place = place - self.low
            span = self.high - self.low
        share = place / span if span > 0 else np.where(np.isnan(place), place, 0.5)
        steps = np.rint(np.clip(share, 0, 1) * (count - 1))
        return np.where(np.isnan(steps), -1, steps).astype(np.int64)


def largest_magnitude(values: NDArray[np.floating[Any]]) -> float:
    """Return the largest finite magnitude, by which bars are scaled; 1 if none is above 0."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max(initial=0.0)) or 1.0


def is_difference(figure: Figure) -> bool:
    """Return whether the values are differences of two passes, or signed weights of a map.

    Both need a signed scale.
    """
    return bool(figure.extra.get("change")) or figure.unit == SIGNED_WEIGHT


def in_decades(figure: Figure) -> bool:
    """Return whether probabilities need a logarithmic scale: those of one token at each cell.

    In most layers they are far below one percent, where an even scale shows nothing.
    """
    return ranks_of(figure) is not None and figure.unit == "probability"


def ranks_of(figure: Figure) -> NDArray[np.float32] | None:
    """Return the rank of the token whose probability each cell is; None for another figure."""
    ranks = figure.extra.get("ranks")
    if figure.values.ndim != 2 or ranks is None or is_difference(figure):
        return None
    known = np.asarray(ranks, dtype=np.float32)
    return known if known.shape == figure.values.shape else None


def legend(scale: Scale, unit: str, style_set: Styles, width: int, note: str = "") -> Row:
    """Draw the ramp between the numbers of its two ends, with the unit and remarks.

    To fit a border of `width` cells the ramp shrinks, then the note and then the unit are
    dropped; the ends are always shown.
    """
    ramp = scale.ramp(style_set)
    unit = plain_text(unit, style_set.look.ascii)
    low, high = number(scale.low), number(scale.high)
    remarks = ["log"] if scale.kind == "log" else []
    room = width - BORDER - len(low) - len(high) - 2 - sum(len(remark) + 3 for remark in remarks)
    if note and room - cell_len(note) - cell_len(unit) - 4 >= SHORTEST:
        remarks.append(note)
        room -= cell_len(note) + 3
    if room - cell_len(unit) - 1 < SHORTEST:
        unit = ""
    room -= cell_len(unit) + 1 if unit else 0
    count = max(min(LONGEST, len(ramp), room), SHORTEST) if ramp.coloured else len(ramp)
    line = Line()
    if unit:
        line.add(f"{unit} ", style_set.dim)
    line.add(f"{low} ", style_set.base)
    for index in range(count):
        step = round(index * (len(ramp) - 1) / max(count - 1, 1))
        line.add(ramp.glyphs[step], ramp.styles[step])
    line.add(f" {high}", style_set.base)
    for remark in remarks:
        line.add(f" {style_set.glyphs.separator} {remark}", style_set.dim)
    return line.row(line.width, style_set.base)
