"""The `paper` style: figures for print, with axes and a colour bar, by matplotlib."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ScopeError
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.json import json_text
from llmscope.figure import Figure, Focus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Page

Paper = Literal["paper"]
PAPER: Paper = "paper"
PAPER_FORMATS = ("svg", "pdf", "png")
CELL = (5, 10)
"""Width and height of a cell in points, to convert a size given in cells."""
WIDTH = 500
"""Default width of a page in points: two columns of most journals."""

DOTS = 300
"""Pixels per inch of a PNG."""

_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "savefig.dpi": DOTS,
    "pdf.fonttype": 42,  # embed TrueType fonts, which journals require
    "svg.fonttype": "none",
    "svg.hashsalt": "llmscope",
    "text.parse_math": False,  # a token may hold dollars
}


def paper_bytes(
    figures: Sequence[Figure],
    format: str,  # noqa: A002
    *,
    size: tuple[int, int] | None = None,
    focus: Focus | None = None,
    whatif: EditsCaption = PLAIN,
    about: Mapping[str, Any] | None = None,
    scale: float = 1.0,
) -> bytes:
    """Plot figures below each other, with reproducible bytes; for the options see `render`.

    Args:
        figures: the figures.
        format: one of `PAPER_FORMATS`.
        size, focus, whatif, about, scale: as for `render`.

    Raises:
        ScopeError: matplotlib is not installed, `format` is unknown, or one of the figures is a
            table, which has no axes.
    """
    if format not in PAPER_FORMATS:
        raise ScopeError(f"--look paper writes {', '.join(PAPER_FORMATS)}", "--format pdf")
    said = (about or {}).get("provenance")
    origin = "" if said is None else json_text(dict(said)).strip()
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": "llmscope", "Description": origin or None},
        "pdf": {"CreationDate": None, "Creator": "llmscope", "Keywords": origin or None},
        "png": {"llmscope": origin} if origin else {},
    }
    stream = io.BytesIO()
    with _settings(), warnings.catch_warnings():
        # An SVG keeps text as text, so glyphs missing from this machine's fonts do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        page = paper(figures, size=size, focus=focus, whatif=whatif, every_glyph=format == "svg")
        dots = {"dpi": DOTS * scale} if format == "png" else {}
        page.savefig(stream, format=format, metadata=metadata[format], **dots)
    return stream.getvalue()


def paper(
    figures: Sequence[Figure],
    *,
    size: tuple[int, int] | None = None,
    focus: Focus | None = None,
    whatif: EditsCaption = PLAIN,
    every_glyph: bool = True,
) -> Page:
    """Return the page as a matplotlib figure.

    Args:
        figures, size, focus, whatif: as for `render`.
        every_glyph: keep all characters, because the viewer has fonts for them; False escapes
            those that matplotlib's own font lacks.

    Raises:
        ScopeError: matplotlib is not installed, or one of the figures is a table.
    """
    with _settings():
        from matplotlib.figure import Figure as Page

        from llmscope.export.paper_plots import Plots

        plots = Plots(focus or Focus(), every_glyph)
        heights = [size[1] * CELL[1] if size else plots.height(one) for one in figures]
        width = size[0] * CELL[0] if size else WIDTH
        said = [f"edit: {edit}" for edit in whatif.edits]
        said += [] if whatif.other is None else [f"prompt B: {whatif.other}"]
        page = Page(
            figsize=(width / 72, (sum(heights) + 12 * len(said)) / 72), layout="constrained"
        )
        if said:
            page.suptitle("\n".join(plots.shown(one) for one in said), fontsize=8)
        parts = page.subfigures(len(figures), 1, squeeze=False, height_ratios=heights)
        for part, figure in zip(parts[:, 0], figures, strict=True):
            plots.draw(part, figure, width)
        return page


def plot(figure: Figure, ax: Axes | None = None) -> Axes:
    """Plot a figure on axes of the caller's, in the caller's style.

    Args:
        figure: the figure: a map, bars or lines.
        ax: the axes; None: those of a new figure of pyplot.

    Raises:
        ScopeError: matplotlib is not installed; or the figure is refused, a table, or several maps.
    """
    need_matplotlib()
    if figure.verdict.status == "refused":
        raise ScopeError(f"{figure.lens} is refused: {figure.verdict.reason}")
    if figure.kind == "heatmap" and len(figure.axes) > 2:
        raise ScopeError(
            f"{figure.title} is {len(figure.axes[0])} maps, which one pair of axes cannot hold",
            'a single head, or figure.save("figure.pdf", look="paper")',
        )
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots()
    from llmscope.export.paper_plots import OneAxes, Plots

    Plots(Focus(), every_glyph=False).draw(OneAxes(ax), figure, WIDTH)
    return ax


def need_matplotlib() -> None:
    """Check that matplotlib is installed, without importing it.

    Raises:
        ScopeError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ScopeError(
            "the look paper needs matplotlib, which is not installed",
            "pip install matplotlib, or the look of the terminal",
        )


def prepare_matplotlib(cache: Path) -> None:
    """Have matplotlib keep its font list in a folder, unless MPLCONFIGDIR names another one.

    Args:
        cache: the folder for files that can be made again.

    Raises:
        ScopeError: matplotlib is not installed.
    """
    need_matplotlib()
    if not os.environ.get("MPLCONFIGDIR"):
        os.environ["MPLCONFIGDIR"] = str(cache / "matplotlib")


@contextmanager
def _settings() -> Iterator[None]:
    """Use the same settings everywhere, whatever the user's matplotlib configuration."""
    need_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield
