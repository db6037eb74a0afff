"""The seam between `Figure` and `llmscope.export`, which writes figures and imports them.

The package sets `exporter`, so that `Figure.save` and its like import nothing, and `find_lens`, so
that drawing a figure knows no lens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import pandas
    import polars
    import xarray
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Page

    from llmscope.figure import Figure, Focus


class Widget(Protocol):
    """A widget of a notebook that shows figures.

    Attributes:
        cursor: the position of the token at the cursor.
    """

    cursor: int

    def observe(self, handler: Callable[[Any], Any], names: str) -> None:
        """Call a function for each change of a trait, such as `cursor`."""


class Exporter(Protocol):
    """What `llmscope.export` does for a figure."""

    def save(self, figure: Figure, path: Path, **options: Any) -> Path:
        """Write the figure to a file."""

    def tidy(self, figure: Figure) -> dict[str, Any]:
        """Return the values in long form."""

    def data_frame(self, figure: Figure) -> pandas.DataFrame:
        """Return the values in long form as a data frame."""

    def polars_frame(self, figure: Figure) -> polars.DataFrame:
        """Return the values in long form as a data frame of polars."""

    def data_array(self, figure: Figure) -> xarray.DataArray:
        """Return the values with a dimension for each axis."""

    def plot(self, figure: Figure, ax: Axes | None, **style: Any) -> Axes | Page:
        """Plot the figure with matplotlib, on axes or on a page of its own."""

    def mimebundle(
        self, figures: Figure | Sequence[Figure], focus: Focus | None = None
    ) -> dict[str, str]:
        """Return figures for a notebook, by MIME type."""

    def widget(self, figures: Figure, *, cursor: int) -> Widget:
        """Return the figure as a widget for a notebook."""


exporter: Callable[[], Exporter]
"""Import `llmscope.export` and return it."""
find_lens: Callable[[str], Any]
"""Import `llmscope.lenses` and return the lens of a name, which says how its figures are drawn."""
