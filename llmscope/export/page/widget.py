"""Figures as a widget of a notebook: the script and the data of the page, and a cursor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmscope.draw import RenderOptions
from llmscope.errors import ScopeError, WrongTypeError, WrongUseError
from llmscope.export.page.data import page_data
from llmscope.figure import Figure, Focus
from llmscope.support import arguments, exporting

if TYPE_CHECKING:
    from llmscope.export.page.notebook import FigureWidget


def widget(
    figures: Figure | Iterable[Figure],
    *,
    cursor: int = -1,
    look: RenderOptions | None = None,
) -> FigureWidget:
    """Return a widget for notebooks that draws figures as the html page does.

    `widget.cursor` is the position of the token at the cursor. It follows the reader's keys and
    clicks, and a program may set it; `widget.observe(function, "cursor")` calls a function for each
    move.

    Args:
        figures: one figure or several.
        cursor: the position of the cursor at first; negative ones count from the end.
        look: the render options, of which colours and characters are used; None: the defaults.

    Raises:
        ScopeError: anywidget is not installed, or there is no figure.
    """
    several = (
        [figures] if isinstance(figures, Figure) else list(arguments.several("figures", figures))
    )
    if not several:
        raise WrongUseError("there is no figure to show", "llmscope.widget([figure])")
    for at, figure in enumerate(several):
        if not isinstance(figure, Figure):
            raise WrongTypeError(
                f"figures[{at}] must be a figure, not {arguments.quote_value(figure)}"
            )
    try:
        from llmscope.export.page.notebook import FigureWidget
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "traitlets"):
            raise
        raise ScopeError(
            "a widget needs anywidget, which is not installed",
            "pip install '.[notebook]' in the checkout",
        ) from error
    data = page_data(several, look or RenderOptions(), Focus(position=cursor))
    focus = Focus(position=cursor)
    return FigureWidget(data, lambda: exporting.exporter().mimebundle(several, focus))
