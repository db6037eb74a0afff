"""The look `paper`: figures as a journal prints them, with axes and a colour bar, by matplotlib."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ScopeError
from llmscope.export.edits_caption import PLAIN, EditsCaption
from llmscope.export.json import json_text
from llmscope.figure import Figure, Focus

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Page

Paper = Literal["paper"]
PAPER: Paper = "paper"
PAPER_FORMATS = ("svg", "pdf", "png")
CELL = (5, 10)
"""Points that stand for the width and height of a cell, where a size was given in cells."""
WIDTH = 500
"""Points of a page without a size: two columns of most journals."""

DOTS = 300
"""Pixels of a PNG on an inch."""

_SETTINGS = {
    "font.size": 8,
    "axes.titlesize": 9,
    "savefig.dpi": DOTS,
    "pdf.fonttype": 42,  # letters stay letters, which journals ask for
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
    """Figures below each other, the same bytes each time; the options are those of `render`.

    Args:
        format: one of `PAPER_FORMATS`.

    Raises:
        ScopeError: matplotlib is not installed, there is no such format, or one of the figures is
            a table, which has no axes.
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
        # In an svg letters stay letters, so that no glyph of this machine is missing from it.
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
    """The page as a figure of matplotlib, not yet written.

    Args:
        every_glyph: whoever shows it has a font for every character; or else those that
            matplotlib's own font lacks are spelled out.

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


def need_matplotlib() -> None:
    """Nothing, where matplotlib is installed. It is not imported.

    Raises:
        ScopeError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ScopeError(
            "the look paper needs matplotlib, which is not installed",
            "pip install matplotlib, or the look of the terminal",
        )


@contextmanager
def _settings() -> Iterator[None]:
    """The same settings everywhere, whatever a person's own matplotlib is set to."""
    need_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield
