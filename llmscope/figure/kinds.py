"""The `Kind` of a figure: how figures of one form, with axes of certain names, are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from llmscope.figure.figure import Figure, Focus, Form

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Canvas: TypeAlias = Any
"""`llmscope.draw.Canvas`: this package stands below that one."""
Painting: TypeAlias = Any
"""`llmscope.draw.Painting`."""
RenderOptions: TypeAlias = Any
"""`llmscope.draw.RenderOptions`."""
Describe = Callable[[Figure, Focus], Iterator[str]]
DRAWN = {"heatmap": 3, "bars": 1, "tokens": 1}
"""By form: how many axes a picture has. The leading ones beyond are taken at the focus."""


def text_in_place(figure: Figure, digits: int = 4) -> str | None:
    """Return the text in place of the picture of a figure that has none; None if it has one.

    Args:
        figure: the figure.
        digits: of the number of a figure without axes.
    """
    if figure.verdict.status == "refused":
        return figure.verdict.reason
    if not figure.values.size:
        return "nothing to show"
    return None if figure.axes else f"{float(figure.values):.{digits}g} {figure.unit}"


def usual_rows(figure: Figure) -> int | None:
    """Return the height of the usual picture of a form; None if any further row shows more."""
    dimensions = len(figure.axes)
    if figure.kind == "lines" or (figure.kind == "heatmap" and dimensions > 2):
        return None
    if figure.kind == "heatmap" and dimensions == 2:  # and the labels, and the ends of the scale
        return len(figure.axes[0]) + 3
    return len(figure.axes[0]) + 1 + ("kl" in figure.extra)


@dataclass(frozen=True)
class Kind:
    """How figures of one form, with axes of certain names, are drawn.

    Attributes:
        form: the form of the figures.
        paint: draws one on the screen, and in text and pictures of it.
        axes: the names of the axes; several alternatives; empty: any.
        fits: returns whether it is for a figure at a focus; None: for all with these axes.
        rows: returns how many rows show all of a figure without its caption; None if any further
            row shows more.
        page: returns entries of the figure's record for the html page, in place of the usual ones;
            see `llmscope.export.page.data`. None: the usual ones of the form.
        plot: draws one on axes of matplotlib; None: the usual plot of the form.
        describe: yields phrases about the place of a focus in one, unless its lens has its own.
        even: whether its colours are on a linear scale, so that small values look small.
    """

    form: Form
    paint: Callable[[Figure, Canvas], Painting]
    axes: tuple[tuple[str, ...], ...] = ()
    fits: Callable[[Figure, Focus], bool] | None = None
    rows: Callable[[Figure], int | None] = usual_rows
    page: Callable[[Figure, RenderOptions], Mapping[str, Any]] | None = None
    plot: Callable[[Axes, Figure], None] | None = None
    describe: Describe | None = None
    even: bool = False

    def draws(self, figure: Figure, focus: Focus) -> bool:
        """Return whether it is for a figure."""
        names = tuple(axis.name for axis in figure.axes)
        if figure.kind != self.form or (self.axes and names not in self.axes):
            return False
        return self.fits is None or self.fits(figure, focus)
