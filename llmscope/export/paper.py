"""The `paper` style: figures for print, with axes and a colour bar, by matplotlib."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ScopeError, WrongUseError, option
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.json import json_text
from llmscope.figure import Figure, Focus
from llmscope.support.text import display_text

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
MOST_PIXELS = 65_000
"""Maximum pixels of a side of a PNG: matplotlib draws no larger ones."""
INCH = 25.4
"""Millimetres."""
NARROWEST, WIDEST = 20.0, 5000.0
"""Limits of a page's width in millimetres."""


@dataclass(frozen=True)
class PaperStyle:
    """What can be chosen of the `paper` look.

    Attributes:
        cmap: matplotlib's name of the colours of maps, and after a comma of those with signs; None:
            viridis, and the colours that signs have on the screen too.
        font: the family of the letters; None: DejaVu Sans.
        width: of the page in millimetres; None: two columns of a journal, or as wide as words in
            the cells of a map need.
        grey: draw in greys, except where `cmap` names colours.
    """

    cmap: str | None = None
    font: str | None = None
    width: float | None = None
    grey: bool = False

    def check(self) -> None:
        """Check the values, as far as that needs no matplotlib.

        Raises:
            ScopeError: the width is out of range.
        """
        if self.width is not None and not NARROWEST <= self.width <= WIDEST:
            raise WrongUseError(
                f"a page {self.width:g} mm wide", f"{NARROWEST:g} to {WIDEST:g} mm, such as 85"
            )

    @property
    def points(self) -> float | None:
        """The width in points; None if it is not given."""
        return None if self.width is None else self.width / INCH * 72


PLAIN_STYLE = PaperStyle()

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
    style: PaperStyle = PLAIN_STYLE,
) -> bytes:
    """Plot figures below each other, with reproducible bytes; for the options see `render`.

    Args:
        figures: the figures.
        format: one of `PAPER_FORMATS`.
        size, focus, whatif, about, scale: as for `render`.
        style: colours, font and width.

    Raises:
        ScopeError: matplotlib is not installed, `format` is unknown, one of the figures is a
            table, which has no axes, the style names what is not there, or a png would be too
            large.
    """
    if format not in PAPER_FORMATS:
        raise WrongUseError(
            f"{option('look', 'paper')} writes {', '.join(PAPER_FORMATS)}",
            option("format", "pdf"),
        )
    provenance = (about or {}).get("provenance")
    origin = "" if provenance is None else json_text(dict(provenance)).strip()
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": "llmscope", "Description": origin or None},
        "pdf": {"CreationDate": None, "Creator": "llmscope", "Keywords": origin or None},
        "png": {"llmscope": origin} if origin else {},
    }
    stream = io.BytesIO()
    with _settings(style), warnings.catch_warnings():
        # An SVG keeps text as text, so glyphs missing from this machine's fonts do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        page = paper(
            figures,
            size=size,
            focus=focus,
            whatif=whatif,
            every_glyph=format == "svg",
            style=style,
        )
        if format == "png" and max(page.get_size_inches()) * DOTS * scale > MOST_PIXELS:
            raise WrongUseError(
                "the png would be too large for matplotlib", f"svg, pdf or less {option('scale')}"
            )
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
    style: PaperStyle = PLAIN_STYLE,
    make: Callable[..., Page] | None = None,
) -> Page:
    """Return the page as a matplotlib figure.

    Args:
        figures, size, focus, whatif: as for `render`.
        every_glyph: keep all characters, because the viewer has fonts for them; False escapes
            those that matplotlib's own font lacks.
        style: colours, font and width.
        make: makes the empty page; None: one that pyplot does not know.

    Raises:
        ScopeError: matplotlib is not installed, one of the figures is a table, or the style names
            what is not there.
    """
    style.check()
    with _settings(style):
        from matplotlib.figure import Figure as Page

        from llmscope.export.paper_plots import Palette, Plots, in_blocks, page_width

        plots = Plots(focus or Focus(), every_glyph, Palette.of(style.cmap, grey=style.grey))
        width = size[0] * CELL[0] if size else style.points or page_width(figures, WIDTH)
        blocks = [block for figure in figures for block in in_blocks(figure, width)]
        heights = [
            size[1] * CELL[1] if size else plots.height(block.figure, width) for block in blocks
        ]
        heading = [f"edit: {edit}" for edit in whatif.edits]
        heading += [] if whatif.other is None else [f"prompt B: {whatif.other}"]
        columns = max(int(width // 5), 20)
        heading = [row for line in heading for row in wrap(plots.shown(line), columns)]
        page = (make or Page)(
            figsize=(width / 72, (sum(heights) + 12 * len(heading)) / 72), layout="constrained"
        )
        if heading:
            page.suptitle("\n".join(heading), fontsize=8)
        parts = page.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
        for part, block in zip(parts[:, 0], blocks, strict=True):
            plots.draw(part, block.figure, width, block.scale)
        return page


def plot(figure: Figure, ax: Axes | None = None, **style: Any) -> Axes | Page:
    """Plot a figure on axes of the caller's and in the caller's style, or on a page of its own.

    Args:
        figure: the figure: a map, bars or lines.
        ax: the axes; None: a page in the `paper` look, which pyplot knows.
        style: of the page, as keywords of `PaperStyle`.

    Returns:
        The axes; without axes the page, a figure of matplotlib.

    Raises:
        ScopeError: matplotlib is not installed; the figure is refused or a table; or it is several
            maps and there are axes.
    """
    need_matplotlib()
    if figure.verdict.status == "refused":
        raise ScopeError(f"{figure.lens} is refused: {figure.verdict.reason}")
    if ax is None:
        from matplotlib import pyplot

        return paper([figure], style=PaperStyle(**style), make=pyplot.figure)
    if PaperStyle(**style) != PLAIN_STYLE:
        raise WrongUseError("axes of yours have their own style", "plot() without axes")
    if figure.kind == "heatmap" and len(figure.axes) > 2:
        raise ScopeError(
            f"{figure.title} is {len(figure.axes[0])} maps, which one pair of axes cannot hold",
            "a single head, or plot() without axes",
        )
    from llmscope.export.paper_plots import OneAxes, Palette, Plots

    Plots(Focus(), every_glyph=False, palette=Palette.of(None)).draw(OneAxes(ax), figure, WIDTH)
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
def _settings(style: PaperStyle) -> Iterator[None]:
    """Use the same settings everywhere, whatever the user's matplotlib configuration.

    Raises:
        ScopeError: the font is not installed.
    """
    need_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        if style.font is not None:
            from matplotlib.font_manager import FontProperties, findfont

            try:
                findfont(FontProperties(family=style.font), fallback_to_default=False)
            except ValueError:
                raise WrongUseError(
                    f"matplotlib finds no font {display_text(style.font)!r}",
                    "the family of one that is installed, or serif, sans-serif or monospace",
                ) from None
            # What the font lacks comes from matplotlib's own.
            matplotlib.rcParams["font.family"] = [style.font, "DejaVu Sans"]
        yield
